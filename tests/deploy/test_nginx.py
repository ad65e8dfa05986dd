"""deploy/nginx/pixeltier.conf in a real nginx before a real server: prefix cut off and not, TCP and Unix socket."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.e2e.conftest import free_port
from tests.images import opened, png
from tests.integration.server import serving

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "nginx" / "pixeltier.conf"
TOKEN = "a-token-of-the-nginx-test"

_MAIN = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/pixeltier.conf;
}}
"""


@contextmanager
def nginx(folder: Path, upstream: str, *, cuts: bool = True) -> Iterator[str]:
    """The example before an upstream; gives the address of the service behind it."""
    port = free_port()
    example = EXAMPLE.read_text()
    for there, here in (
        ("server 127.0.0.1:8000;", f"server {upstream};"),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
    ):
        assert example.count(there) == 1
        example = example.replace(there, here)
    if not cuts:
        example = example.replace("proxy_pass http://pixeltier/;", "proxy_pass http://pixeltier;")
        example = re.sub(r"location = /pixeltier \{.*?\}", "", example, flags=re.DOTALL)
        example = example.replace("location /pixeltier/ {", "location /pixeltier {")
        example = example.replace("proxy_set_header X-Forwarded-Prefix /pixeltier;", "")
    (folder / "pixeltier.conf").write_text(example)
    user = "user root;" if os.geteuid() == 0 else ""  # the folder is readable by its owner alone
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    process = subprocess.Popen(["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    url = f"http://127.0.0.1:{port}/pixeltier/"
    try:
        end = time.monotonic() + 20
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url + "healthz").status_code == 200:
                    break
            time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=["cut off", "cut off, Unix socket", "not cut off"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "tokens").write_text(TOKEN)
    cuts, socket = request.param != "not cut off", folder / "socket"
    with contextlib.ExitStack() as stack:
        settings = {} if cuts else {"root_path": "/pixeltier"}
        if "Unix" in request.param:
            stack.enter_context(serving(uds=socket, admin_token_file=folder / "tokens"))
            upstream = f"unix:{socket}"
        else:
            served = stack.enter_context(serving(admin_token_file=folder / "tokens", **settings))
            upstream = served.removeprefix("http://")
        yield stack.enter_context(nginx(folder, upstream, cuts=cuts))


def test_the_guide_s_example_is_this_file() -> None:
    assert f"```nginx\n{EXAMPLE.read_text()}```" in (ROOT / "docs" / "proxies.md").read_text()


def test_the_page_and_everything_it_asks_for(url: str) -> None:
    page = httpx.get(url)
    assert page.status_code == 200
    links = set(re.findall(r'(?:href|src)="([^"#]+)"', page.text))
    assert links >= {"docs"}
    assert len(links) > 5
    for link in links:
        answer = httpx.get(urljoin(url, link))
        assert answer.status_code == 200, link
    script = next(link for link in links if link.endswith("main.js"))
    for module in re.findall(r'from "(\./[^"]+)"', httpx.get(urljoin(url, script)).text):
        assert httpx.get(urljoin(urljoin(url, script), module)).status_code == 200, module
    fetched = {"v1/tiers", "v1/models", "readyz", "admin/v1/tiers"}
    for path in fetched:  # as service/console/js asks: relative to the page
        answer = httpx.get(urljoin(url, path), headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, path


def test_links_and_examples_of_the_docs_lead_here(url: str) -> None:
    page = httpx.get(url + "docs").text
    (document,) = re.findall(r'href="([^"]+)"', page)
    assert httpx.get(urljoin(url + "docs", document)).json()["openapi"]
    assert f"{url}v1/classify?tier=fast" in page
    for example in re.findall(r"curl &#x27;(http[^&]*)&#x27;", page):
        assert example.startswith(url)
    assert httpx.get(url + "openapi.json").json()["servers"] == [{"url": "/pixeltier"}]


def test_the_prefix_alone_leads_to_the_page(url: str) -> None:
    answer = httpx.get(url.removesuffix("/"))
    assert answer.status_code == 308
    assert urljoin(url, answer.headers["location"]) == url


def test_images_go_through(url: str) -> None:
    large = png(900, 700)
    answer = httpx.post(url + "v1/super-resolve", content=large, timeout=60)
    assert opened(answer.content).size == (3600, 2800)
    answer = httpx.post(url + "v1/classify", files={"file": ("a.png", large)}, data={"tier": "fast"})
    assert answer.json()["tier"] == "fast"


def test_errors_are_the_service_s_own_and_name_places_that_exist(url: str) -> None:
    answer = httpx.get(url + "nowhere")
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["detail"].startswith("GET /pixeltier/nowhere: ")
    assert document["help"] == "See /pixeltier/docs for the routes."
    answer = httpx.post(url + "v1/classify", content=bytes(33 * 2**20), timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "payload-too-large")
    answer = httpx.get(url + "v2/models/nothing")
    assert answer.json()["error"].startswith("not-found: ")


def test_head_and_request_ids(url: str) -> None:
    with httpx.Client() as client:
        head, got = client.head(url + "v1/models"), client.get(url + "v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert re.fullmatch(r"[0-9a-f]{32}", got.headers["x-request-id"]), "made by nginx"
    answer = httpx.get(url + "healthz", headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"


def test_a_tag_that_gzip_made_weak_is_refused_with_the_reason(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    weak = httpx.get(url + "admin/v1/tiers", headers=headers).headers["etag"]
    assert weak.startswith('W/"')
    change = {"tiers": {"fast": {"description": f"seen {weak}"}}, "reason": "a test"}
    answer = httpx.patch(url + "admin/v1/tiers", json=change, headers=headers | {"If-Match": weak})
    assert answer.status_code == 412
    assert "weak" in answer.json()["detail"]
    assert "compresses" in answer.json()["detail"]
    assert "/pixeltier/admin/v1/tiers" in answer.json()["help"]
    strong = weak.removeprefix("W/")
    answer = httpx.patch(url + "admin/v1/tiers", json=change, headers=headers | {"If-Match": strong})
    assert answer.status_code == 200
    answer = httpx.get(url + "admin/v1/tiers", headers=headers | {"If-None-Match": answer.headers["etag"]})
    assert answer.status_code == 304


def test_idle_times_are_in_order() -> None:
    """nginx drops an idle connection before the service does: else a request could meet one that is just closing."""
    from pixeltier.service.configuration.settings import Settings

    example = EXAMPLE.read_text()
    seconds = {name: int(value) for name, value in re.findall(r"(\w+_timeout) (\d+)s;", example)}
    assert seconds["keepalive_timeout"] < Settings().keep_alive_s
    assert seconds["proxy_read_timeout"] * 1000 > Settings().max_timeout_ms
    (size,) = re.findall(r"client_max_body_size (\d+)m;", example)
    assert int(size) * 2**20 > Settings().max_body_bytes * 4 / 3 + 64 * 1024
