"""Prefixes, forwarded headers, and the addresses the service listens on."""

import socket
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pixeltier.service.configuration.settings import ConfigurationError, Settings, load
from pixeltier.service.server.listening import listening_sockets, names
from tests.images import png
from tests.integration.fakes import fake_app, running
from tests.integration.server import serving

TOLD = {"X-Forwarded-Prefix": "/told"}


async def _get(path: str, headers: dict[str, str] | None = None, **settings: Any) -> httpx.Response:
    async with running(fake_app(**settings)) as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("prefix", ["/px", "/a/b.c", "/px/", "/~me"])
async def test_a_configured_prefix_may_be_cut_off_or_not(prefix: str) -> None:
    root = prefix.rstrip("/")
    async with running(fake_app(root_path=prefix)) as client:
        for path in ("/healthz", f"{root}/healthz"):
            assert (await client.get(path)).status_code == 200
            assert (
                await client.post(path.replace("healthz", "v1/classify"), content=png())
            ).status_code == 200
        for path in ("/docs", f"{root}/docs"):
            page = (await client.get(path)).text
            assert f"http://test{root}/v1/classify" in page
            assert 'href="openapi.json"' in page
        for path in ("/openapi.json", f"{root}/openapi.json"):
            assert (await client.get(path)).json()["servers"] == [{"url": root}]
        for path in ("/nowhere", f"{root}/nowhere"):
            document = (await client.get(path)).json()
            assert document["detail"].startswith(f"GET {root}/nowhere: ")
            assert document["help"] == f"See {root}/docs for the routes."
        for path in ("/v2/models/x", f"{root}/v2/models/x"):
            assert set((await client.get(path)).json()) == {"error"}
        for path in ("/v2/logging", f"{root}/v2/logging"):
            assert "--log-level" in (await client.get(path)).json()["error"]
        assert (await client.get(f"{root}x/healthz")).status_code == 404
        assert (await client.get(f"{root}{root}/healthz")).status_code == 404
        tier = (await client.post("/v1/classify?tier=x", content=png())).json()
        assert f"GET {root}/v1/tiers" in tier["help"]
        metrics = (await client.get(f"{root}/metrics")).text
        assert 'http_requests_total{method="GET",route="/healthz",status="200"}' in metrics
        assert f'route="{root}' not in metrics


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_prefix_alone_leads_to_the_page(method: str) -> None:
    async with running(fake_app(root_path="/px")) as client:
        answer = await client.request(method, "/px?a=b")
        assert (answer.status_code, answer.headers["location"]) == (308, "/px/?a=b")
        assert (await client.get("/px/")).headers["content-type"].startswith("text/html")
        assert (await client.post("/px")).status_code == 404


async def test_a_trusted_proxy_tells_the_prefix() -> None:
    async with running(fake_app()) as client:
        assert "http://test/told/v1/classify" in (await client.get("/docs", headers=TOLD)).text
        assert (await client.get("/openapi.json", headers=TOLD)).json()["servers"] == [{"url": "/told"}]
        assert "servers" not in (await client.get("/openapi.json")).json(), (
            "nothing is left of the one before"
        )
        lists = {"X-Forwarded-Prefix": "/outer/, /inner"}
        assert "http://test/outer/inner/v1/classify" in (await client.get("/docs", headers=lists)).text


async def test_what_is_told_is_stronger_than_what_is_configured() -> None:
    answer = await _get("/docs", TOLD, root_path="/px")
    assert "http://test/told/v1/classify" in answer.text
    assert "/px/v1" not in answer.text


@pytest.mark.parametrize(
    "value", ["//evil", "/a b", "/a/../b", "/.", "/<script>", "a", "/" + "x" * 300, "/a?b", "/%41"]
)
async def test_what_is_no_prefix_does_not_count(value: str) -> None:
    answer = await _get("/docs", {"X-Forwarded-Prefix": value})
    assert "http://test/v1/classify" in answer.text


async def test_nobody_else_tells_a_prefix() -> None:
    for headers in (TOLD, TOLD | {"X-Forwarded-For": "127.0.0.1"}):
        answer = await _get("/docs", headers, forwarded_allow_ips="192.0.2.7,198.51.100.0/24,2001:db8::/32")
        assert "http://test/v1/classify" in answer.text


async def test_a_header_that_a_proxy_passes_on_opens_no_way_around_its_rules() -> None:
    """A proxy that denies /metrics sees /told/metrics. Only one that the operator named may have prefixes cut off."""
    assert (await _get("/told/metrics", TOLD)).status_code == 404
    assert (await _get("/told/metrics", TOLD, forwarded_allow_ips="127.0.0.1")).status_code == 200


async def test_client_and_scheme_come_from_the_proxy() -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9", "Host": "images.example"}
    assert "https://images.example/v1/classify" in (await _get("/docs", headers)).text
    assert "http://images.example/v1" in (await _get("/docs", headers, forwarded_allow_ips="192.0.2.7")).text


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("root_path", "px", "--root-path"),
        ("root_path", "/a//b", "letters"),
        ("root_path", "/a b", "letters"),
        ("root_path", "/../a", "letters"),
        ("root_path", "/v1", "/v1 is a path of the service's own"),
        ("root_path", "/admin/x", "/admin is a path"),
        ("forwarded_allow_ips", "proxy.example", "'proxy.example'"),
        ("forwarded_allow_ips", "10.0.0.1/8", "host bits"),
        ("forwarded_allow_ips", "*,10.0.0.0/8", "give it alone"),
        ("keep_alive_s", "0", "--keep-alive-s"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="--" + name.replace("_", "-")) as refusal:
        load({name: value})
    assert said in str(refusal.value)


def test_settings_are_read_from_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIXELTIER_ROOT_PATH", "/px/")
    monkeypatch.setenv("PIXELTIER_FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1,unix")
    file = tmp_path / "config.toml"
    file.write_text('keep_alive_s = 620\nuds = "/run/pixeltier/socket"\n')
    found = load(config_file=file)
    assert (found.root_path, found.keep_alive_s) == ("/px", 620)
    assert found.forwarded_allow_ips == ("10.0.0.0/8", "::1", "unix")
    assert found.uds == Path("/run/pixeltier/socket")


# ---- sockets -----------------------------------------------------------------------------------------


def _addresses(url: str) -> tuple[int, list[str]]:
    port = int(urlsplit(url).port or 0)
    found = []
    for host in ("127.0.0.1", "[::1]"):
        try:
            assert httpx.get(f"http://{host}:{port}/healthz").status_code == 200
            found.append(host)
        except httpx.ConnectError:
            pass
    return port, found


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("::", ["127.0.0.1", "[::1]"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["[::1]"]),
    ],
)
def test_which_addresses_a_host_stands_for(host: str, reached: list[str]) -> None:
    with serving(host=host) as url:
        assert _addresses(url)[1] == reached


def test_both_families_share_one_socket_and_ipv4_clients_keep_their_address() -> None:
    with listening_sockets(Settings(host="::", port=0)) as sockets:
        assert [name.partition(" ")[2] for name in names(sockets)] == ["(IPv6 and IPv4)"]
    with serving(host="::") as url:
        port = urlsplit(url).port
        # 127.0.0.1 is trusted, ::ffff:127.0.0.1 would not be.
        page = httpx.get(f"http://127.0.0.1:{port}/docs", headers=TOLD).text
        assert f"http://127.0.0.1:{port}/told/v1/classify" in page


def test_a_name_of_several_addresses_has_one_port_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0)),
            (socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with listening_sockets(Settings(host="localhost", port=0)) as sockets:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert len(sockets) == 2


def test_an_address_that_cannot_be_taken_is_told_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = pytest.raises(ConfigurationError, match=f"port {port}: .*in use")
        with refused, listening_sockets(Settings(host="127.0.0.1", port=port)):
            pass
    refused = pytest.raises(ConfigurationError, match=r"host: 'no-such-host\.invalid'")
    with refused, listening_sockets(Settings(host="no-such-host.invalid")):
        pass


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:  # what a killed process leaves
        stale.bind(str(path))
    with serving(uds=path) as url:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url=url) as client:
            assert client.post("/v1/classify", content=png()).status_code == 200
            assert "http://unix/told/v1/classify" in client.get("/docs", headers=TOLD).text
        refused = pytest.raises(ConfigurationError, match=r"uds: .*another process listens there")
        with refused, listening_sockets(Settings(uds=path)):
            pass
    assert not path.exists()


def test_a_unix_socket_replaces_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(ConfigurationError, match=r"uds: .*exists"), listening_sockets(Settings(uds=path)):
        pass
    assert path.read_text() == "keep me"
    missing = tmp_path / "no" / "socket"
    with pytest.raises(ConfigurationError, match="uds: "), listening_sockets(Settings(uds=missing)):
        pass


@pytest.mark.parametrize("keep_alive_s", [1, 3])
def test_idle_connections_live_as_long_as_they_are_told(keep_alive_s: int) -> None:
    with serving(keep_alive_s=keep_alive_s) as url:
        parts = urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=20) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            started = time.monotonic()
            assert client.recv(65536) == b""
            assert keep_alive_s - 0.2 < time.monotonic() - started < keep_alive_s + 1.5
