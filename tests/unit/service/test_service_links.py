"""Variables that Kubernetes sets for Services are told from settings, and from misspelt ones."""

from pathlib import Path

import pytest

from pixeltier.service.configuration import settings
from pixeltier.service.configuration.service_links import service_links
from pixeltier.service.configuration.settings import ConfigurationError


def injected(service: str, address: str = "10.96.0.7", port: int = 80) -> dict[str, str]:
    """What the kubelet sets for a Service with one port named http."""
    url = f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
    return {
        f"{service}_SERVICE_HOST": address,
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_HTTP": str(port),
        f"{service}_PORT": url,
        f"{service}_PORT_{port}_TCP": url,
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": str(port),
        f"{service}_PORT_{port}_TCP_ADDR": address,
    }


@pytest.mark.parametrize(
    "service", ["PIXELTIER", "PIXELTIER_PREDICTOR", "PIXELTIER_PREDICTOR_00001_PRIVATE", "PIXELTIER_PORT"]
)
@pytest.mark.parametrize("address", ["10.96.0.7", "fd00:10:96::7"])
def test_they_do_not_stop_the_start(monkeypatch: pytest.MonkeyPatch, service: str, address: str) -> None:
    variables = injected(service, address)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.load().port == 8000
    assert settings.ignored_variables() == sorted(variables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIXELTIER_SERVICE_HOST", "10.0.0.1"),
        ("PIXELTIER_PORT", "tcp://10.0.0.1:80"),
        ("PIXELTIER_PREDICTOR_PORT", "tcp://10.0.0.1:80"),
        ("PIXELTIER_PREDICTOR_PORT_9000_UDP_PROTO", "udp"),
    ],
)
def test_each_is_known_by_itself(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert settings.load().port == 8000
    assert settings.ignored_variables() == [name]


def test_settings_beside_them_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in injected("PIXELTIER_PREDICTOR").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIXELTIER_PORT", "8080")
    monkeypatch.setenv("PIXELTIER_QUEUE_LIMIT", "7")
    found = settings.load()
    assert (found.port, found.queue_limit) == (8080, 7)


def test_a_port_of_the_file_counts_where_the_variable_is_a_service_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("port = 8123")
    monkeypatch.setenv("PIXELTIER_PORT", "tcp://10.0.0.1:80")
    assert settings.load(config_file=file).port == 8123


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIXELTIER_HTTP_PORT", "8000"),  # a port, not the URL of a Service
        ("PIXELTIER_SERVICE_PORT", "8000"),  # Kubernetes sets the host too
        ("PIXELTIER_SERVICE_HOST", "pixeltier.example.org"),
        ("PIXELTIER_PORT_80_TCP_PROTO", "http"),
        ("PIXELTIER_QUEUE_LIMITS", "3"),
        ("PIXELTIER_PREDICTOR", "tcp://10.0.0.1:80"),
        ("PIXELTIER_PREDICTOR_PORT_HTTP", "tcp://10.0.0.1:80"),
    ],
)
def test_what_only_looks_like_one_is_still_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"unknown setting {name} in the environment"):
        settings.load()


def test_a_bad_port_is_still_a_bad_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELTIER_PORT", "10.0.0.1:80")
    with pytest.raises(ConfigurationError, match="PIXELTIER_PORT"):
        settings.load()


def test_services_of_others_are_not_ours() -> None:
    assert service_links(injected("REDIS") | injected("PIXELTIERS"), "PIXELTIER_") == frozenset()
