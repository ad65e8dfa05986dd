"""deploy/compose.yaml: valid by the compose specification's schema, and agreeing with what it mounts and starts."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixeltier.service import __version__
from pixeltier.service.configuration.settings import OTHER_VARIABLES, PREFIX, Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
ADMIN = FILE.with_name("compose.admin.yaml")
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]


def _check(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_schema(tmp_path: Path) -> None:
    for file in (FILE, ADMIN):
        checked = _check(file)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("stop_grace_period", "stop_grace"))
    assert _check(wrong).returncode == 1


def test_everything_mounted_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FILE.parent / source).is_dir(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)


def test_the_runbooks_are_where_the_alerts_link_to() -> None:
    flags = dict(one.removeprefix("--").split("=", 1) for one in SERVICES["prometheus"]["command"])
    (mount,) = [one for one in SERVICES["prometheus"]["volumes"] if one.startswith("./prometheus:")]
    inside = mount.split(":")[1]
    user = flags["web.user-assets"]
    assert user.startswith(f"{inside}/")
    assert (FILE.parent / "prometheus" / user.removeprefix(f"{inside}/") / "runbooks.html").is_file()
    published = SERVICES["prometheus"]["ports"][0].split(":")[1]
    assert flags["web.external-url"] == f"http://localhost:{published}"


def test_settings_are_known() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    added = yaml.safe_load(ADMIN.read_text())["services"]["pixeltier"]
    assert {*SERVICES["pixeltier"]["environment"], *added["environment"]} <= known
    assert added["environment"]["PIXELTIER_ADMIN_TOKEN_FILE"] == f"/run/secrets/{added['secrets'][0]}"


def test_the_tokens_are_never_committed() -> None:
    assert "/deploy/admin-tokens" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_state_lies_where_its_user_may_write() -> None:
    state = SERVICES["pixeltier"]["environment"]["PIXELTIER_STATE_DIR"]
    assert f"state:{state}" in SERVICES["pixeltier"]["volumes"]
    assert re.search(rf"^RUN install --directory --owner=65532 .*{state}$", _dockerfile(), flags=re.MULTILINE)


def test_unprivileged_and_local() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), (name, port)
    assert SERVICES["pixeltier"]["read_only"] is True


def test_names_and_ports_agree_with_the_monitoring() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (job,) = [one for one in scraped if one["job_name"] == "pixeltier"]
    (target,) = job["dns_sd_configs"]
    assert target["names"] == ["pixeltier"]
    assert target["port"] == Settings().port
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/pixeltier.yml").read_text())[
        "providers"
    ]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (ROOT / "deploy/grafana/dashboards" / home.name).is_file()


def test_the_stop_is_long_enough_to_drain() -> None:
    settings = Settings()
    grace = re.fullmatch(r"(\d+)s", SERVICES["pixeltier"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) >= settings.drain_delay_s + settings.drain_timeout_s + 5


def _dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_image_is_named_by_its_version() -> None:
    assert SERVICES["pixeltier"]["image"] == f"pixeltier:{__version__}"
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert tag not in {"", "latest"}, name


def _stages() -> dict[str, str]:
    """The Dockerfile's stages by name; the last one is nameless."""
    parts = re.split(r"^(FROM .*)$", _dockerfile(), flags=re.MULTILINE)
    return {
        (head.partition(" AS ")[2]): head + body for head, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_only_the_cuda_image_asks_for_gpus() -> None:
    stages = _stages()
    assert stages[""].startswith("FROM runtime-${VARIANT}\n")
    assert {"build", "runtime-cpu", "runtime-cuda", ""} == stages.keys()
    asking = [
        name for name, text in stages.items() if re.search(r"^(ENV|\s+).*\bNVIDIA_", text, flags=re.MULTILINE)
    ]
    assert asking == ["runtime-cuda"]


def test_the_build_arguments_exist() -> None:
    declared = set(re.findall(r"^ARG (\w+)", _dockerfile(), flags=re.MULTILINE))
    assert set(SERVICES["pixeltier"]["build"]["args"]) <= declared
    assert {"BASE_IMAGE", "BUILD_IMAGE", "VARIANT", "TORCH_INDEX"} <= declared


@pytest.mark.parametrize(
    "name",
    [
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE", "LICENSES", "distribution"),
        *("native", "models", "service"),
    ],
)
def test_what_the_image_copies_is_not_ignored(name: str) -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{name}" in allowed
    assert re.search(rf"^COPY .*\b{re.escape(name)}\b", _dockerfile(), flags=re.MULTILINE)
