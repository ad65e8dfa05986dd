"""The typed client and the command line against a real server on the fake engine."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixeltier.client import AsyncClient, Client, PixeltierError
from pixeltier.service import __version__
from pixeltier.service.command_line.main import main
from tests.images import opened, png
from tests.integration.fakes import SLOW
from tests.integration.server import serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def test_client(url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        assert client.ready()
        answer = client.classify(png(colour=1), tier="fast", top_k=2)
        assert answer.predictions[0].label == "green"
        assert answer.cost.tier == "fast"
        assert answer.cost.macs_dense == 1000
        assert set(answer.cost.timings_ms) >= {"queue", "infer", "total"}
        (tmp_path / "a.png").write_bytes(png(5, 3))
        large = client.upscale(tmp_path / "a.png", format="webp")
        assert large.media_type == "image/webp"
        assert opened(large.body).size == (20, 12)
        assert client.tiers()["default"] == "balanced"
        with pytest.raises(PixeltierError) as caught:
            client.classify(b"no image")
        assert (caught.value.status, caught.value.type) == (422, "undecodable-image")


async def test_async_client(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.classify(png(colour=2))).predictions[0].label == "blue"
        assert opened((await client.upscale(png(2, 2))).body).size == (8, 8)


def test_the_deadline_travels(url: str) -> None:
    with Client(url, timeout_s=0.15) as client:
        with pytest.raises(PixeltierError) as caught:
            client.classify(png(), threshold=SLOW)
        assert caught.value.type in {"deadline-exceeded", "unreachable"}
    time.sleep(0.4)


def _scripted(answers: list[httpx.Response]) -> tuple[httpx.MockTransport, list[float]]:
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        return answers[min(len(times), len(answers)) - 1]

    return httpx.MockTransport(answer), times


GOOD = httpx.Response(
    200,
    json={"predictions": []},
    headers={
        "X-Request-Id": "r", "X-Tier": "t", "X-Tier-Effective": "t", "X-Threshold": "0", "X-Macs-Dense": "1",
        "X-Macs-Executed": "1", "X-Macs-Saved-Ratio": "0", "X-Config-Version": "1", "X-Model-Version": "1",
    },
)  # fmt: skip


def _refusal(status: int, after: str | None) -> httpx.Response:
    headers = {} if after is None else {"Retry-After": after}
    return httpx.Response(status, json={"type": "overloaded", "detail": "full"}, headers=headers)


def test_retries_honour_retry_after() -> None:
    transport, times = _scripted([_refusal(503, "1"), GOOD])
    with Client("http://x", transport=transport) as client:
        client.classify(b"x")
    assert 1.0 <= times[1] - times[0] < 1.6


def test_no_retry_beyond_the_deadline_or_of_a_final_answer() -> None:
    for answer, type_ in ((_refusal(503, "60"), "overloaded"), (_refusal(422, None), "overloaded")):
        transport, times = _scripted([answer])
        with (
            Client("http://x", transport=transport, timeout_s=5) as client,
            pytest.raises(PixeltierError) as caught,
        ):
            client.classify(b"x")
        assert caught.value.type == type_
        assert len(times) == 1


def test_a_proxys_failure_is_asked_again_and_the_services_own_is_not() -> None:
    """A 500 without a problem document: the replica behind a proxy died. With one, the service has judged."""
    transport, times = _scripted([httpx.Response(500, text="Internal Server Error"), GOOD])
    with Client("http://x", transport=transport) as client:
        client.classify(b"x")
    assert len(times) == 2
    problem = httpx.Response(
        500, content=b'{"type": "internal"}', headers={"Content-Type": "application/problem+json"}
    )
    transport, times = _scripted([problem, GOOD])
    with Client("http://x", transport=transport) as client, pytest.raises(PixeltierError):
        client.classify(b"x")
    assert len(times) == 1


def test_retries_end() -> None:
    transport, times = _scripted([_refusal(503, "0")])
    with Client("http://x", transport=transport, retries=2) as client, pytest.raises(PixeltierError):
        client.classify(b"x")
    assert len(times) == 3


def test_unreachable() -> None:
    with Client("http://127.0.0.1:9", retries=1) as client:
        assert not client.ready()
        with pytest.raises(PixeltierError, match="unreachable"):
            client.classify(b"x")


def test_cli_classify_and_upscale(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for n in range(2):
        files.append(tmp_path / f"{n}.png")
        files[n].write_bytes(png(8 + n, 8, colour=n))
    paths = [str(file) for file in files]
    assert main(["classify", "--url", url, "--tier", "exact", *paths]) == 0
    out = capsys.readouterr().out
    assert "red" in out
    assert "green" in out
    assert main(["classify", "--url", url, "--json", paths[0]]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["label"] == "red"
    assert main(["upscale", "--url", url, *paths]) == 0
    assert opened((tmp_path / "1_x4.png").read_bytes()).size == (36, 32)
    assert main(["upscale", "--url", url, paths[0], "-o", str(tmp_path / "out.jpg")]) == 0
    assert opened((tmp_path / "out.jpg").read_bytes()).format == "JPEG"
    assert main(["classify", "--url", url, str(tmp_path / "missing.png"), paths[0]]) == 1
    assert main(["upscale", "--url", url, *paths, "-o", str(tmp_path / "no-folder")]) == 2


@pytest.mark.parametrize(
    ("settings", "requests"), [({}, 3), ({"max_images": 5}, 17), ({"max_body_bytes": 10_000}, 17)]
)
def test_cli_classifies_many_files_in_few_requests(
    settings: dict[str, int], requests: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the service takes fewer images, or bytes, at once than the command thinks."""
    paths = []
    for n in range(40):
        paths.append(tmp_path / f"{n}.png")
        paths[n].write_bytes(b"no image" if n == 7 else png(60, 50, colour=n % 3))
    paths[11].unlink()
    assert 1_000 < len(paths[0].read_bytes()) < 10_000
    with serving(**settings) as url:
        assert main(["classify", "--url", url, *map(str, paths)]) == 1
        shown = capsys.readouterr()
        metrics = httpx.get(f"{url}/metrics").text
    lines = shown.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        str(path) for n, path in enumerate(paths) if n not in {7, 11}
    ]
    assert [next(name for name in ("red", "green", "blue") if name in line) for line in lines] == [
        ("red", "green", "blue")[n % 3] for n in range(40) if n not in {7, 11}
    ]
    assert sorted(line.split(":")[0] for line in shown.err.splitlines()) == sorted(
        [str(paths[7]), str(paths[11])]
    )
    asked = [
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith("http_requests_total{") and '"/v1/classify"' in line
    ]
    assert sum(asked) <= requests


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"pixeltier {__version__}"
    assert main([]) == 2
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "--queue-limit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--workers", "2"], {}, "--workers above 1 is refused"),
        ([], {"WEB_CONCURRENCY": "4"}, "--workers above 1 is refused"),
        ([], {"WEB_CONCURRENCY": "auto"}, "--workers above 1 is refused"),
        (["--port", "x"], {}, "--port"),
        ([], {"PIXELTIER_PROT": "1"}, "did you mean PIXELTIER_PORT?"),
        (["--slots", "200", "--threads", "9"], {}, "CPUs and the quota is"),
        (["--tiers-file", "/nowhere"], {}, "tiers_file"),
        (["--weights-dir", "/tmp"], {}, "missing"),
    ],
)
def test_serve_refuses_with_a_clear_message(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pixeltier.service.telemetry.logs.configure", lambda *_: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


def _imported_by(statement: str) -> set[str]:
    """Top-level modules, and our packages, that are there after a statement."""
    ours = "name.startswith('pixeltier.') and name.count('.') == 1"
    code = (
        f"import sys\n{statement}\nprint(*sorted(name for name in sys.modules if '.' not in name or {ours}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_front_process_never_imports_torch() -> None:
    imported = _imported_by(
        "from pixeltier.service.server import serve; from pixeltier.service.command_line import main; "
        "from pixeltier.service import catalogue; from pixeltier.models import cards"
    )
    assert "fastapi" in imported
    assert not imported & {"torch", "pixeltier.native"}


def test_a_worker_sets_its_thread_caps_before_numpy_and_torch() -> None:
    imported = _imported_by(
        "from pixeltier.service.worker import startup; from pixeltier.service.work import messages; "
        "from pixeltier.service.pool import process_worker"
    )
    assert not imported & {"torch", "numpy", "PIL", "pixeltier.native"}


def test_the_client_is_light(capsys: Any) -> None:
    assert not _imported_by("import pixeltier.client") & {"torch", "fastapi", "numpy", "pydantic"}
