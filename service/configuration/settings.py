"""Static configuration: command line > environment > file > default, one name everywhere.

The name of a setting is its field below. The command line spells it `--queue-limit`, the environment
`PIXELTIER_QUEUE_LIMIT`, the TOML file `queue_limit`. Unknown names are refused wherever they stand.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pixeltier.models.text_files import TextError, invisible_in_toml, loads_toml, read_text
from pixeltier.service.configuration import cpus, gpus, list_settings
from pixeltier.service.configuration.list_settings import Origin, Proxy
from pixeltier.service.configuration.service_links import service_links

PREFIX = "PIXELTIER_"

CONFIG_FILE_VARIABLE = "PIXELTIER_CONFIG_FILE"

OTHER_VARIABLES = frozenset(
    {
        CONFIG_FILE_VARIABLE,
        "PIXELTIER_ISA",
        "PIXELTIER_URL",
        "PIXELTIER_API_KEY",
        "PIXELTIER_ADMIN_TOKEN",
        "PIXELTIER_TRACEBACK",
    }
)
"""Variables with our prefix that are not settings of the service: the file's place, the kernels' instruction
set (read by `native`), and what the client and the command line read."""


PATH_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~@:+-]+)*")
"""Empty, or path segments that need no escaping."""

LONGEST_PREFIX = 256

OWN_SEGMENTS = frozenset(
    {"v1", "v2", "admin", "console", "docs", "healthz", "metrics", "openapi.json", "readyz"}
)
"""What paths of the service begin with. A prefix that does could not be told from them."""

LOOPBACK = ("127.0.0.1", "::1", "unix")
"""Whose forwarded headers count unless the operator says otherwise: proxies on this machine."""


class ConfigurationError(ValueError):
    """The configuration cannot be used; the message names the key and says what to do."""


class Settings(BaseSettings):
    """Everything that is fixed for the life of a process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        validate_default=True,
        enable_decoding=False,  # variables are spelled as flags are: `_split_lists` below, not JSON alone
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC; 0 takes a free one, unset: none.",
    )
    uds: Path | None = Field(None, description="Unix socket to listen on, instead of host and port.")
    keep_alive_s: int = Field(
        75,
        ge=1,
        le=3600,
        description="How long an idle connection stays open; longer than the load balancer's own idle timeout.",
    )
    root_path: str = Field(
        "",
        max_length=LONGEST_PREFIX,
        description="Path prefix that a proxy serves this below, cut off by it or not: /pixeltier.",
    )
    forwarded_allow_ips: tuple[Proxy, ...] | None = Field(
        None,
        description="Proxies whose X-Forwarded-For, -Proto and -Prefix count: addresses and networks, comma separated, "
        f"`unix`, or * alone; an empty list is none. Unset: {','.join(LOOPBACK)}.",
    )

    tiers_file: Path | None = Field(None, description="Tier table (TOML); the packaged one if unset.")
    tiers_watch_s: float = Field(
        1.0, ge=0, description="How often the tier file is looked at for changes; 0: only at SIGHUP."
    )
    state_dir: Path | None = Field(
        None,
        description="Directory that keeps the versions of the tier table; unset: changes end with the process.",
    )
    admin_token_file: Path | None = Field(
        None, description="Tokens of the admin API, NAME:TOKEN a line; without it there is no admin API."
    )
    recent_images: int = Field(
        256, ge=1, le=10_000, description="Images a model whose MAC curves are kept for the dry-run."
    )
    weights_dir: Path | None = Field(
        None, description="Directory of weights and cards; the packaged one if unset."
    )

    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="Arithmetic of the models; auto measures at the start and takes the fastest that loses next to "
        "nothing, int8 is for the classifier's base.",
    )
    device: str = Field(
        "cpu",
        pattern=gpus.PATTERN,
        description="cpu, cuda (one worker on each GPU), cuda:N, or auto: GPUs where they can be used.",
    )
    gpu_memory_share: float = Field(
        0.9, gt=0, le=1, description="Share of a GPU's memory that its worker may take."
    )

    pool: Literal["process", "thread"] = Field(
        "process", description="Workers as processes, or as threads for tests and tiny containers."
    )
    slots: int = Field(0, ge=0, le=256, description="Workers; 0 chooses from the CPU quota and the preset.")
    threads: int = Field(0, ge=0, le=256, description="Threads in each worker; 0 chooses likewise.")
    preset: Literal["throughput", "latency"] = Field(
        "throughput",
        description="How a 0 above is filled: many workers of one thread, or one worker of many.",
    )

    queue_limit: int = Field(
        64, ge=1, le=100_000, description="Jobs that may wait; one more is answered 503."
    )
    default_timeout_ms: int = Field(120_000, ge=1, description="Deadline of a request that names none.")
    max_timeout_ms: int = Field(600_000, ge=1, description="Longest deadline a request may ask for.")
    hang_timeout_s: float = Field(
        660.0,
        gt=0,
        description="A job that runs longer is a hang, whatever its deadline: its worker is killed.",
    )
    hang_grace_s: float = Field(
        10.0, gt=0, description="A job that runs this long past its deadline, nobody waiting, is killed too."
    )
    start_timeout_s: float = Field(
        180.0, gt=0, description="A worker not warm after this is killed and retried."
    )
    start_attempts: int = Field(
        3, ge=1, description="Starts each worker may fail before the first is ready; then the service ends."
    )
    drain_timeout_s: float = Field(25.0, ge=0, description="Time accepted requests get after SIGTERM.")
    drain_delay_s: float = Field(1.0, ge=0, description="Time the port stays open, not ready, after SIGTERM.")
    restart_backoff_s: float = Field(
        0.2, gt=0, description="First pause before a crashed worker is restarted."
    )
    restart_backoff_limit_s: float = Field(
        30.0, gt=0, description="Longest such pause; it doubles up to here."
    )
    crash_limit: int = Field(
        5, ge=1, description="Crashes in a row, no job done between, that end readiness."
    )
    slot_memory_mb: int = Field(0, ge=0, description="A worker above this is recycled between jobs; 0 never.")
    max_batch: int = Field(4, ge=1, le=64, description="Classify jobs that may run together in a worker.")

    max_body_bytes: int = Field(
        32 * 2**20, ge=1, description="Longest request body, all its images together."
    )
    max_images: int = Field(16, ge=1, le=60, description="Images that one request may hold.")
    classify_max_pixels: int = Field(
        50_000_000, ge=1, le=80_000_000, description="Largest image to classify."
    )
    sr_max_pixels: int = Field(
        2**22, ge=1, le=80_000_000, description="Largest image to super-resolve (input)."
    )
    sr_max_output_pixels: int = Field(2**26, ge=16, description="Largest image super-resolution may produce.")

    jobs_limit: int = Field(256, ge=1, le=10_000, description="Asynchronous jobs that are held at once.")
    jobs_max_bytes: int = Field(
        2**30,
        ge=0,
        description="Space for results of asynchronous jobs; 0: Prefer: respond-async is not heeded.",
    )
    jobs_keep_s: int = Field(600, ge=1, le=86_400, description="How long a result is kept.")
    jobs_dir: Path | None = Field(
        None,
        description="Directory on whose disk results are kept, in files without a name; TMPDIR if unset.",
    )

    api_keys_file: Path | None = Field(
        None, description="Hashed API keys with their limits (TOML); open if unset."
    )
    cors_origins: tuple[Origin, ...] = Field(
        ("*",),
        description="Origins that browsers may call from, comma separated; * is every one, an empty list none.",
    )
    tracing: Literal["off", "otlp", "console"] = Field(
        "off",
        description="OpenTelemetry spans, to an OTLP/HTTP collector or printed; OTEL_* variables say more.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: colour on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @field_validator("*", mode="before")
    @classmethod
    def _split_lists(cls, value: Any, info: ValidationInfo) -> Any:
        """Every list takes the same text, wherever it stands; the file may also hold a list."""
        field = cls.model_fields[str(info.field_name)]
        return list_settings.split(value) if list_settings.is_list(field.annotation) else value

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, value: str) -> str:
        prefix = value.rstrip("/")
        if not PATH_PREFIX.fullmatch(prefix):
            raise ValueError(
                "a path prefix is like /a or /a/b: letters, digits and . _ ~ @ : + - between slashes"
            )
        if prefix.split("/")[1:2] and prefix.split("/")[1] in OWN_SEGMENTS:
            raise ValueError(f"/{prefix.split('/')[1]} is a path of the service's own; choose another prefix")
        return prefix

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _proxies(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and "*" in value and len(value) > 1:
            raise ValueError("* is every proxy: give it alone")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.device != "cpu" and self.pool == "thread":
            raise ValueError("device: GPUs need pool=process, so that the front process never touches CUDA")
        if self.default_timeout_ms > self.max_timeout_ms:
            raise ValueError("default_timeout_ms is longer than max_timeout_ms")
        if self.sr_max_output_pixels < 16 * self.sr_max_pixels:
            raise ValueError(
                "sr_max_output_pixels is below 16 * sr_max_pixels: accepted images could not be answered"
            )
        if self.jobs_dir is not None and not self.jobs_dir.is_dir():
            raise ValueError(f"jobs_dir: there is no directory {self.jobs_dir}")
        for name in ("tiers_file", "api_keys_file", "admin_token_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        if self.weights_dir is not None and not self.weights_dir.is_dir():
            raise ValueError(f"weights_dir: there is no directory {self.weights_dir}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment and nothing else: no .env file that happens to lie about is read."""
        del settings_cls, dotenv_settings, file_secret_settings
        if isinstance(env_settings, EnvSettingsSource):
            links = service_links(os.environ, PREFIX)
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if name.upper() not in links
            }
        return (init_settings, env_settings)

    def shape(self) -> cpus.Shape:
        """Workers and threads with the zeros filled in; refuses more than the CPU quota, or than there are GPUs."""
        devices = self.devices()
        slots = self.slots
        if devices != ["cpu"]:
            slots = slots or len(devices)
            if slots > len(devices):
                raise gpus.NoSuchDeviceError(
                    f"{slots} workers need a GPU each, device={self.device} gives {len(devices)}"
                )
        return cpus.shape(slots, self.threads, preset=self.preset, quota=cpus.cpu_quota())

    def devices(self) -> list[str]:
        """What workers compute on: a GPU each, or ["cpu"] for all of them."""
        return gpus.devices(self.device)

    def effective(self) -> dict[str, Any]:
        """The whole configuration as JSON values, secrets redacted, for the log at start."""
        return self.model_dump(mode="json")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
        values = loads_toml(text)
    except (OSError, TextError) as error:
        raise ConfigurationError(f"configuration file {path}: {error}") from error
    if (stray := invisible_in_toml(text)) is not None:
        raise ConfigurationError(f"configuration file {path}: {stray}")
    _refuse_unknown(values, where=f"in {path}", spell=str)
    return values


def _refuse_unknown(names: Mapping[str, Any], *, where: str, spell: Any) -> None:
    known = {spell(name): name for name in Settings.model_fields}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"unknown setting {name} {where}{hint}")


def environment() -> dict[str, str]:
    """The variables with our prefix, as the service understands them: without what Kubernetes injects for Services."""
    links = service_links(os.environ, PREFIX)
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(PREFIX) and name not in links
    }


def ignored_variables() -> list[str]:
    """Variables with our prefix that Kubernetes injected for Services, and that are not read."""
    return sorted(service_links(os.environ, PREFIX))


def load(overrides: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> Settings:
    """Read the effective settings.

    Args:
        overrides: values of the command line, by field name; None values are absent.
        config_file: TOML file; else the one named by PIXELTIER_CONFIG_FILE, else none.

    Raises:
        ConfigurationError: unknown name, bad value, unreadable file. The message names the key.
    """
    variables = environment()
    ours = {name: value for name, value in variables.items() if name.upper() not in OTHER_VARIABLES}
    _refuse_unknown(ours, where="in the environment", spell=lambda field: PREFIX + field.upper())
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    path = config_file or (Path(p) if (p := os.environ.get(CONFIG_FILE_VARIABLE)) else None)
    from_file = _read_file(path) if path else {}
    from_environment = {
        name
        for name in Settings.model_fields
        if variables.get(PREFIX + name.upper())  # an empty variable is an absent one
    }
    # The file goes in as arguments, so only where nothing stronger speaks: pydantic-settings' own source of TOML does
    # not name the file in its errors, and has no suggestion for an unknown key.
    weaker = {k: v for k, v in from_file.items() if k not in from_environment and k not in given}
    try:
        return Settings(**weaker, **given)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, given, from_environment)) from error
    except SettingsError as error:  # a value that the library cannot take apart
        raise ConfigurationError(str(error)) from error


def _explain(error: ValidationError, given: Mapping[str, Any], environment: set[str]) -> str:
    lines = []
    for item in error.errors():
        field = name = str(item["loc"][0]) if item["loc"] else ""
        if field in given:
            name = "--" + name.replace("_", "-")
        elif field in environment:
            name = PREFIX + name.upper()
        message = item["msg"].removeprefix("Value error, ")
        shown = "" if not field else f" (got {item['input']!r})"
        lines.append(f"{name}: {message}{shown}" if name else message)
    return "; ".join(lines)
