"""Where commands look for the service: flag, variables, file, default, each for itself as the service takes them."""

from pathlib import Path

import pytest

from pixeltier.client import DEFAULT_URL
from pixeltier.service.configuration.settings import CONFIG_FILE_VARIABLE, Settings
from pixeltier.service.connection.whereabouts import WhereaboutsError, service_url


@pytest.mark.parametrize(
    ("environment", "file", "url"),
    [
        ({}, None, DEFAULT_URL),
        ({"PIXELTIER_PORT": "9000"}, None, "http://127.0.0.1:9000"),
        ({"PIXELTIER_HOST": "10.0.0.7"}, None, "http://10.0.0.7:8000"),
        ({"PIXELTIER_HOST": "pixeltier.example"}, None, "http://pixeltier.example:8000"),
        ({"PIXELTIER_HOST": "0.0.0.0"}, None, DEFAULT_URL),
        ({"PIXELTIER_HOST": "::"}, None, "http://[::1]:8000"),
        ({"PIXELTIER_HOST": "::1"}, None, "http://[::1]:8000"),
        ({"PIXELTIER_HOST": ""}, None, DEFAULT_URL),
        ({"pixeltier_port": "9000"}, None, "http://127.0.0.1:9000"),
        ({"PIXELTIER_PORT": "tcp://10.0.0.1:80"}, None, DEFAULT_URL),  # from Kubernetes
        ({}, "port = 9001\n", "http://127.0.0.1:9001"),
        ({}, 'host = "::"\nport = 9001\n', "http://[::1]:9001"),
        ({}, '\ufeffhost = "10.0.0.8"\n', "http://10.0.0.8:8000"),
        ({"PIXELTIER_HOST": "0.0.0.0"}, 'host = "10.0.0.8"\nport = 9001\n', "http://127.0.0.1:9001"),
        ({"PIXELTIER_PORT": "9002"}, 'host = "10.0.0.8"\nport = 9001\n', "http://10.0.0.8:9002"),
        ({"PIXELTIER_UDS": "/run/p.sock", "PIXELTIER_PORT": "9"}, None, "unix:/run/p.sock"),
        ({}, 'uds = "/run/p.sock"\n', "unix:/run/p.sock"),
        ({"PIXELTIER_URL": "https://a.example", "PIXELTIER_PORT": "9"}, "port = 7\n", "https://a.example"),
    ],
)
def test_the_service_is_where_its_settings_put_it(
    environment: dict[str, str], file: str | None, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "pixeltier.toml"
    if file is not None:
        path.write_text(file, encoding="utf-8")
        assert service_url(environment=environment, config_file=path) == url
        assert service_url(environment=environment | {CONFIG_FILE_VARIABLE: str(path)}) == url
    else:
        assert service_url(environment=environment) == url
    assert service_url("http://given.example", environment=environment) == "http://given.example"


def test_the_defaults_are_those_of_the_service() -> None:
    host, port = (Settings.model_fields[name].default for name in ("host", "port"))
    assert service_url(environment={}) == DEFAULT_URL == f"http://{host}:{port}"


@pytest.mark.parametrize("port", ["http", "0", "-1", "65536", "99999999999", "٣"])
def test_a_port_that_is_none_says_so(port: str) -> None:
    with pytest.raises(WhereaboutsError, match=r"port.*give --url"):
        service_url(environment={"PIXELTIER_PORT": port})


@pytest.mark.parametrize("content", [None, b"port = = 3", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WhereaboutsError, match=r"c\.toml"):
        service_url(environment={}, config_file=path)
    assert service_url("http://given.example", environment={}, config_file=path) == "http://given.example"
