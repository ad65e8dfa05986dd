"""The command line on bad days: one line on stderr, a status that is not 0, never a traceback."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pixeltier.service.command_line.main import main
from tests.images import png
from tests.integration.server import serving
from tests.integration.stubs import response, sent, stub


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIXELTIER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "a.png"
    file.write_bytes(png(colour=1))
    return file


COMMANDS = {
    "health": ["health"],
    "classify": ["classify", "IMAGE"],
    "upscale": ["upscale", "IMAGE"],
    "tiers show": ["tiers", "show"],
    "tiers set": ["tiers", "set", "fast.classify=0.5", "--reason", "a test"],
    "tiers dry-run": ["tiers", "dry-run"],
    "tiers history": ["tiers", "history"],
    "tiers rollback": ["tiers", "rollback"],
}
"""Every command that talks to the service."""


def _arguments(command: list[str], image: Path, *more: str) -> list[str]:
    return [str(image) if part == "IMAGE" else part for part in command] + list(more)


def _fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(arguments)
    said = capsys.readouterr().err
    assert status not in {0, None}
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return status, said


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELTIER_ADMIN_TOKEN", "a-token")


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
class TestEveryCommandThatTalksToTheService:
    def test_nobody_listens(
        self, command: list[str], image: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = _arguments(command, image, "--url", "http://127.0.0.1:9", "--timeout", "1")
        assert "http://127.0.0.1:9: Connection refused" in _fails(arguments, capsys)[1]

    @pytest.mark.parametrize("content", [b"<html></html>", b"[]", b"{}"])
    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    def test_something_else_answers(
        self,
        command: list[str],
        content: bytes,
        coding: str,
        image: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        page = response(content, headers=("Content-Type: application/json", f"Content-Encoding: {coding}"))
        with stub(sent(page)) as url:
            _, said = _fails(_arguments(command, image, "--url", url), capsys)
        assert "not" in said

    def test_the_answer_drips(
        self, command: list[str], image: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        with stub(sent(head, *[b" "] * 99, every_s=0.1)) as url:
            began = time.monotonic()
            _, said = _fails(_arguments(command, image, "--url", url, "--timeout", "0.5"), capsys)
        assert time.monotonic() - began < 2
        assert "no complete answer within 0.5 s" in said

    @pytest.mark.parametrize("url", ["localhost:8000", "http://[", "ftp://a"])
    def test_the_url_is_none(
        self, command: list[str], url: str, image: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, said = _fails(_arguments(command, image, "--url", url), capsys)
        assert url in said

    def test_the_settings_say_where_it_is(
        self,
        command: list[str],
        image: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A stub at the place that variables and file name together, each a part."""
        with stub(sent(response(b"<html></html>"))) as url:
            file = tmp_path / "pixeltier.toml"
            file.write_text(f"port = {urlsplit(url).port}\nqueue_limit = 3\n")
            monkeypatch.setenv("PIXELTIER_CONFIG_FILE", str(file))
            monkeypatch.setenv("PIXELTIER_HOST", "0.0.0.0")
            assert url in _fails(_arguments(command, image), capsys)[1]
            monkeypatch.delenv("PIXELTIER_CONFIG_FILE")
            assert url in _fails(_arguments(command, image, "--config-file", str(file)), capsys)[1]
        monkeypatch.setenv("PIXELTIER_PORT", "http")
        status, said = _fails(_arguments(command, image), capsys)
        assert (status, "give --url" in said) == (2, True)

    def test_a_timeout_is_above_zero(
        self, command: list[str], image: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for value in ("0", "-1", "nan", "soon"):
            with pytest.raises(SystemExit) as caught:
                main(_arguments(command, image, f"--timeout={value}"))
            assert caught.value.code == 2
            assert "--timeout" in capsys.readouterr().err

    def test_a_url_with_a_percent_sign_does_not_break_the_help(
        self,
        command: list[str],
        image: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("PIXELTIER_URL", "http://a/%s%(x)d")
        with pytest.raises(SystemExit) as caught:
            main(_arguments(command, image, "--help"))
        assert caught.value.code == 0
        assert "--url" in capsys.readouterr().out


# ---- health --------------------------------------------------------------------------------------------


def test_health_tells_ready_not_ready_and_absent_apart(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["health", "--url", url]) == 0
    assert capsys.readouterr().out == "ready\n"
    monkeypatch.setenv("PIXELTIER_PORT", str(urlsplit(url).port))
    assert main(["health"]) == 0
    capsys.readouterr()
    with serving() as draining:
        from pixeltier.client import Client

        with Client(draining) as client:
            assert client.ready()
    assert main(["health", "--url", draining]) == 3
    assert "cannot be reached" in capsys.readouterr().err
    problem = b'{"type": "not-ready", "title": "x", "status": 503, "detail": "workers are starting"}'
    busy = response(problem, status="503 Busy", headers=("Content-Type: application/problem+json",))
    with stub(sent(busy)) as starting:
        assert main(["health", "--url", starting]) == 1
    assert capsys.readouterr().out == "not ready: workers are starting\n"
    with stub(sent(response(b"<html></html>", status="503 Busy"))) as other:
        assert main(["health", "--url", other]) == 3
    assert "does not answer as Pixeltier does" in capsys.readouterr().err


async def test_health_of_a_service_that_drains() -> None:
    """The service's own words, over its own application."""
    import httpx

    from pixeltier.client import AsyncClient, PixeltierError
    from tests.integration.fakes import fake_app, running

    app = fake_app()
    async with running(app), AsyncClient("http://test", transport=httpx.ASGITransport(app)) as client:
        await client.check_ready()
        assert (await client.tiers())["default"] == "balanced"
        app.state.context.pool.begin_drain()
        with pytest.raises(PixeltierError) as caught:
            await client.check_ready()
        assert (caught.value.status, caught.value.type) == (503, "not-ready")
        assert not await client.ready()


def test_health_over_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.sock"
    file = tmp_path / "c.toml"
    file.write_text(f'uds = "{path}"\n')
    with serving(uds=path):
        assert main(["health", "--url", f"unix:{path}"]) == 0
        assert main(["health", "--config-file", str(file)]) == 0
        with monkeypatch.context() as patch:
            patch.setenv("PIXELTIER_UDS", str(path))
            assert main(["health"]) == 0
    assert main(["health", "--url", f"unix:{path}"]) == 3
    assert "No such file or directory" in capsys.readouterr().err


# ---- files and output ----------------------------------------------------------------------------------


def test_files_that_cannot_be_read(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("classify", "upscale"):
        assert main([command, "--url", url, str(tmp_path), str(tmp_path / "no.png"), str(image)]) == 1
        out, err = capsys.readouterr()
        assert err.splitlines() == [
            f"{tmp_path}: Is a directory", f"{tmp_path / 'no.png'}: No such file or directory"
        ]  # fmt: skip
        assert str(image) in out


def test_a_result_that_cannot_be_written(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target, reason in ((tmp_path / "no" / "x.png", "No such file"), (Path("/dev/full"), "No space left")):
        _, said = _fails(["upscale", "--url", url, str(image), "-o", str(target)], capsys)
        assert f"{target}: cannot be written: {reason}" in said


def test_two_files_never_become_one(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "other" / image.name
    twin.parent.mkdir()
    twin.write_bytes(image.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    _, said = _fails(["upscale", "--url", url, str(image), str(twin), "-o", str(out)], capsys)
    assert f"several files would be written to {out / 'a_x4.png'}" in said
    assert not list(out.iterdir())


def _run(arguments: list[str], shell: str = '"$@"', **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pixeltier.service.command_line", *arguments]
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}", "bash", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["tiers", "schema"], ["key", "a"], ["health"], ["doctor"]], ids=str
)  # fmt: skip
def test_output_that_nobody_reads_or_that_does_not_fit(arguments: list[str], url: str) -> None:
    closed = _run(arguments, '"$@" | true', PIXELTIER_URL=url)
    assert closed.stderr == ""
    full = _run(arguments, '"$@" > /dev/full', PIXELTIER_URL=url)
    assert full.returncode == 1
    assert full.stderr == "pixeltier: No space left on device\n"


def test_a_reader_that_leaves_early(url: str, image: Path) -> None:
    done = _run(["classify", "--url", url, *[str(image)] * 40], 'PYTHONUNBUFFERED=1 "$@" | head -n 1')
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert done.returncode == 141


def test_a_name_that_the_terminal_cannot_show(url: str, tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/\xff\xc3\xbc.png"
    Path(os.fsdecode(file)).write_bytes(png(colour=2))
    done = _run(["classify", "--url", url, os.fsdecode(file)], PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "blue" in done.stdout


def test_interrupted() -> None:
    asked = threading.Event()

    def silent(_: object) -> None:
        asked.set()
        time.sleep(20)

    with stub(silent) as url:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pixeltier.service.command_line",
                "health",
                "--url",
                url,
                "--timeout",
                "20",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_the_unexpected_is_one_line_and_a_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise RuntimeError("a fault\nof our own")

    monkeypatch.setattr("pixeltier.service.command_line.doctor.examine", fail)
    _, said = _fails(["doctor"], capsys)
    assert said == "pixeltier: RuntimeError: a fault of our own (PIXELTIER_TRACEBACK=1 shows where)\n"
    monkeypatch.setenv("PIXELTIER_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main(["doctor"])


NEW = ["--out", "/tmp/x", "--model-version", "1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "/no/such.csv"],
        ["evaluate", "super-resolve", "/no/such/folder"],
        ["evaluate", "classify", "/no/such.csv", "--images", "/"],
        ["train", "classify", "/no/such.toml"],
        ["calibrate", "classify", "/no/such.pt", "--photos", "/no/such", *NEW, "--data-name", "x"],
        ["import-weights", "/no/such.pth", "--photos", "/no/such", *NEW, "--licence", "x"],
        ["serve", "--config-file", "/no/such.toml"],
        ["serve", "--api-keys-file", "/"],
        ["tiers", "token", "two words"],
        ["key", "two words"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_every_other_command_explains_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _fails(arguments, capsys)[1].startswith("pixeltier")


@pytest.mark.parametrize("token", ["schlüssel", "two words"])
def test_a_token_that_no_header_can_hold(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIXELTIER_ADMIN_TOKEN", token)
    assert "the token" in _fails(["tiers", "show"], capsys)[1]


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff\xfe{}", None])
def test_a_table_that_cannot_be_read(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table.json"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in _fails(["tiers", "set", "--file", str(file), "--reason", "a test"], capsys)[1]
