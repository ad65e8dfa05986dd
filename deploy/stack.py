"""The monitoring stack without containers: the service, Prometheus, and Grafana where it is installed.

    make stack        # or: python deploy/stack.py --help

Prometheus comes from Debian (`apt-get install prometheus`). Neither Debian nor PyPI has Grafana: where its own package
put a `grafana` program on the PATH it is started with the dashboards of deploy/grafana, else Prometheus' own pages
show the same rules and queries. Ctrl-C ends everything; if one part ends by itself, so do the others.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import httpx
import yaml

DEPLOY = Path(__file__).resolve().parent
SAVED = "job_model:pixeltier_macs_saved:ratio_rate5m"


class StackError(Exception):
    """The stack cannot run; the message says what to do."""


@dataclass(frozen=True)
class Part:
    """A process of the stack."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


def prometheus_configuration(target: str, own: str, scrape_interval: str) -> dict[str, Any]:
    """deploy/prometheus/prometheus.yml with the targets of this machine, its rules by their full paths."""
    source = DEPLOY / "prometheus" / "prometheus.yml"
    configuration: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    configuration["rule_files"] = [str(source.parent / path) for path in configuration["rule_files"]]
    configuration["global"]["scrape_interval"] = configuration["global"]["evaluation_interval"] = (
        scrape_interval
    )
    configuration["global"]["scrape_timeout"] = min(scrape_interval, "5s", key=_seconds)
    targets = {"pixeltier": target, "prometheus": own}
    for job in configuration["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    return configuration


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def program(*names: str, package: str) -> str:
    """The path of the first of these programs.

    Raises:
        StackError: none is there; names the Debian package that has it.
    """
    for name in names:
        if found := shutil.which(name):
            return found
    raise StackError(f"there is no {' or '.join(names)} here: apt-get install {package}")


def check_free(port: int, flag: str) -> None:
    """Raises StackError where somebody listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # what a stack of a minute ago left is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"port {port} is taken ({error.strerror}): choose another with {flag}"
            ) from error


@contextmanager
def part(
    name: str, command: list[str], state: Path, environment: dict[str, str] | None = None
) -> Iterator[Part]:
    """Run a process; at the end it gets SIGTERM, and half a minute later SIGKILL."""
    log = state / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - the commands are ours
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C reaches this process, which ends the parts in their order
        )
    try:
        yield Part(name, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(35)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(one: Part, url: str, timeout_s: float = 120.0) -> None:
    """Ask until the answer is 200.

    Raises:
        StackError: the process ended or the time did; carries the end of its log.
    """
    end = time.monotonic() + timeout_s
    while True:
        if one.process.poll() is not None or time.monotonic() > end:
            tail = one.log.read_text(errors="replace")[-2000:]
            state = "did not get ready" if one.process.poll() is None else "ended"
            raise StackError(f"{one.name} {state}; its log {one.log} ends with\n{tail}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


@contextmanager
def service(port: int, state: Path) -> Iterator[Part]:
    """The service on a port, ready."""
    command = [
        sys.executable,
        "-m",
        "pixeltier.service.command_line",
        "serve",
        "--port",
        str(port),
        "--log-format",
        "json",
    ]
    with part("pixeltier", command, state) as running:
        wait_until_ready(running, f"http://127.0.0.1:{port}/readyz")
        yield running


@contextmanager
def prometheus(port: int, service_port: int, state: Path, scrape_interval: str) -> Iterator[Part]:
    """Prometheus on a port, with our rules, scraping the service."""
    configuration = state / "prometheus.yml"
    configuration.write_text(
        yaml.safe_dump(
            prometheus_configuration(f"127.0.0.1:{service_port}", f"127.0.0.1:{port}", scrape_interval)
        ),
        encoding="utf-8",
    )
    command = [
        program("prometheus", package="prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={state / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}",
        f"--web.user-assets={DEPLOY / 'prometheus' / 'user'}",  # the runbooks that alerts link to
        "--enable-feature=exemplar-storage",
    ]
    with part("prometheus", command, state) as running:
        wait_until_ready(running, f"http://127.0.0.1:{port}/-/ready")
        yield running


@contextmanager
def grafana(port: int, prometheus_port: int, state: Path) -> Iterator[Part | None]:
    """Grafana with our dashboards, open to look at; None where it is not installed."""
    found = shutil.which("grafana") or shutil.which("grafana-server")
    if found is None:
        yield None
        return
    provisioning = state / "provisioning"
    shutil.copytree(DEPLOY / "grafana" / "provisioning", provisioning, dirs_exist_ok=True)
    for path, old, new in (
        ("datasources/prometheus.yml", "http://prometheus:9090", f"http://127.0.0.1:{prometheus_port}"),
        ("dashboards/pixeltier.yml", "/var/lib/grafana/dashboards", str(DEPLOY / "grafana" / "dashboards")),
    ):
        file = provisioning / path
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    home = os.environ.get("GF_PATHS_HOME", "/usr/share/grafana")
    command = [found, *(["server"] if Path(found).name == "grafana" else []), "--homepath", home]
    environment = {
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_PROVISIONING": str(provisioning),
        "GF_PATHS_DATA": str(state / "grafana"),
        "GF_PATHS_LOGS": str(state / "grafana"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
    }
    with part("grafana", command, state, environment) as running:
        wait_until_ready(running, f"http://127.0.0.1:{port}/api/health")
        yield running


def main() -> int:
    """Run the stack until a signal ends it; 0 if all parts ended well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, help="of the service [8000]")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="[9090]")
    parser.add_argument("--grafana-port", type=int, default=3000, help="[3000]")
    parser.add_argument("--scrape-interval", default="15s", help="in whole seconds [15s]")
    parser.add_argument(
        "--state", type=Path, help="folder for data and logs; else one that is removed at the end"
    )
    options = parser.parse_args()

    stop: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.append(number)

    # SIGHUP too: the parts are in sessions of their own and would outlive a closed terminal.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, on_signal)

    with ExitStack() as stack:
        state = options.state or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pixeltier-stack-"))
        )
        state.mkdir(parents=True, exist_ok=True)
        state = state.resolve()
        try:
            check_free(options.port, "--port")
            check_free(options.prometheus_port, "--prometheus-port")
            parts = [
                stack.enter_context(service(options.port, state)),
                stack.enter_context(
                    prometheus(options.prometheus_port, options.port, state, options.scrape_interval)
                ),
            ]
            shown = stack.enter_context(grafana(options.grafana_port, options.prometheus_port, state))
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        if shown is not None:
            parts.append(shown)
        _tell(options, state, has_grafana=shown is not None)
        while not stop:
            ended = [one for one in parts if one.process.poll() is not None]
            if ended:
                print(f"{ended[0].name} ended by itself; see {ended[0].log}", file=sys.stderr)
                return 1
            time.sleep(0.2)
        print("stopping", flush=True)
    return 0 if all(one.process.returncode == 0 for one in parts) else 1


def first_page(base: str, paths: tuple[str, ...]) -> str | None:
    """The first of the addresses that answers with a page; None where none does."""
    for path in paths:
        answer = httpx.get(f"{base}{path}", timeout=10)
        if answer.status_code == 200 and "html" in answer.headers.get("content-type", ""):
            return f"{base}{path}"
    return None


def _tell(options: argparse.Namespace, state: Path, *, has_grafana: bool) -> None:
    query = f"g0.expr={quote(SAVED)}&g0.tab=0&g0.range_input=15m"
    prometheus = f"http://127.0.0.1:{options.prometheus_port}"
    grafana = f"http://127.0.0.1:{options.grafana_port}/dashboards"
    # Prometheus 3, Debian's (without the React pages), and upstream's 2.
    found = {
        "service": f"http://127.0.0.1:{options.port}",
        "prometheus": first_page(prometheus, ("/query", "/classic/graph", "/graph")),
        "alerts": first_page(prometheus, ("/classic/alerts", "/alerts")),
        "rules": first_page(prometheus, ("/classic/rules", "/rules")),
        "MACs saved": first_page(
            prometheus, tuple(f"{p}?{query}" for p in ("/query", "/classic/graph", "/graph"))
        ),
        "runbooks": first_page(prometheus, ("/user/runbooks.html",)),
        "grafana": grafana
        if has_grafana
        else "not installed (neither Debian nor PyPI has it): Prometheus' own pages do",
        "logs": str(state),
    }
    lines = [f"{name:<12}{place}" for name, place in found.items() if place is not None]
    print("\n".join(lines), "\nready; Ctrl-C ends everything", flush=True)


if __name__ == "__main__":
    sys.exit(main())
