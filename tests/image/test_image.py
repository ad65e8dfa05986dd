"""The Dockerfile, built for real and run as a cluster would: not root, nothing writable. `make image-test`.

No Docker engine is needed: buildah builds with chroot isolation, on a base image that debootstrap makes.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SAMPLES, free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
SIZE_LIMIT_MB = 1300
"""Of the files in the image; torch alone is some 530."""

USER = "65532:65532"


def _run(*command: str, timeout_s: float = 3000, **more: Any) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s, **more)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own."""

    storage: Path

    def __call__(self, *arguments: str) -> str:
        where = ("--root", str(self.storage / "root"), "--runroot", str(self.storage / "run"))
        return _run("buildah", *where, "--storage-driver", "overlay", *arguments)


@dataclass(frozen=True)
class Image:
    """The built image: its configuration, and its files mounted."""

    config: dict[str, Any]
    files: Path
    build_s: float


def _pip_volumes(folder: Path) -> list[str]:
    """This machine's pip configuration and the local folders it names, for pip inside the build."""
    parser = ConfigParser()
    volumes = []
    for line in _run("python3", "-m", "pip", "config", "list").splitlines():
        name, _, quoted = line.partition("=")
        section, option = ("global", name[6:]) if name.startswith(":env:.") else name.split(".", 1)
        words = quoted.strip("'").split()
        for place, word in enumerate(words):
            path = Path(word.removeprefix("file://"))
            if path.is_file():  # certificates: beside the image's own, which its packages write
                words[place] = f"/etc/pip-{path.name}"
                volumes.append(f"{path}:{words[place]}:ro")
            elif path.is_absolute() and path.is_dir():
                shown = path.parent if path.name == "simple" else path  # an index may point beside itself
                volumes.append(f"{shown}:{shown}:ro")
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, option, " ".join(words))
    configuration = folder / "pip.conf"
    with configuration.open("w") as out:
        parser.write(out)
    volumes.append(f"{configuration}:/etc/pip.conf:ro")
    return [part for volume in dict.fromkeys(volumes) for part in ("--volume", volume)]


def _base_image(build: Builder, folder: Path) -> str:
    """A minimal Debian, as the registries' slim images are. IMAGE_TEST_ROOT may name one made before."""
    root = Path(os.environ.get("IMAGE_TEST_ROOT") or folder / "base")
    if not root.exists():
        _run("debootstrap", "--variant=minbase", SUITE, str(root))
    container = build("from", "scratch").strip()
    build("add", "--quiet", container, str(root), "/")
    build("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    build("commit", "--quiet", "--rm", container, "localhost/base")
    return "localhost/base"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; tests/image/prepare.sh installs it")
    if os.geteuid() != 0:
        pytest.skip("building in a chroot needs root")
    folder = Path(tempfile.mkdtemp(prefix="pixeltier-image-", dir="/var/tmp"))
    build = Builder(folder / "storage")
    try:
        base = _base_image(build, folder)
        started = time.monotonic()
        build(
            *(
                "build",
                "--isolation",
                "chroot",
                "--format",
                "docker",
                "--quiet",
                "--tag",
                "localhost/pixeltier",
            ),
            *("--build-arg", f"BASE_IMAGE={base}", "--pull-never", *_pip_volumes(folder), str(ROOT)),
        )
        took = time.monotonic() - started
        document = json.loads(build("inspect", "--type", "image", "localhost/pixeltier"))
        container = build("from", "--pull-never", "localhost/pixeltier").strip()
        files = Path(build("mount", container).strip())
        yield Image(document["Docker"]["config"], files, took)
        build("umount", container)
        build("rm", container)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_configuration(image: Image) -> None:
    config = image.config
    assert config["User"] == USER
    assert config["Entrypoint"] == ["pixeltier"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "pixeltier", "health", "--timeout", "4"]
    assert "8000/tcp" in config["ExposedPorts"]
    assert config["Labels"]["pixeltier.variant"] == "cpu"
    assert not [variable for variable in config["Env"] if variable.startswith("NVIDIA_")]


def test_small_and_without_tools(image: Image) -> None:
    size = sum(
        path.lstat().st_size for path in image.files.rglob("*") if path.is_file() and not path.is_symlink()
    )
    print(f"\nimage: {size / 1e6:.0f} MB of files, built in {image.build_s:.0f} s")
    assert size / 1e6 < SIZE_LIMIT_MB
    for tool in ("g++", "gcc", "cmake", "ninja", "pip"):
        assert not list(image.files.glob(f"usr/bin/{tool}*")) + list(
            image.files.glob(f"opt/pixeltier/bin/{tool}*")
        ), tool


def test_exact_versions(image: Image) -> None:
    """What is installed is what constraints.txt says, so two builds of a commit hold the same."""
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    found = {}
    for metadata in image.files.glob("opt/pixeltier/lib/python3*/site-packages/*.dist-info"):
        name, _, version = metadata.name.removesuffix(".dist-info").rpartition("-")
        found[name.lower().replace("_", "-")] = version.split("+")[0]
    assert {"torch", "fastapi", "uvicorn", "numpy"} <= found.keys()
    found.pop("pixeltier")
    assert {name: version for name, version in found.items() if pinned.get(name) != version} == {}


def test_nothing_is_writable_for_its_user(image: Image) -> None:
    uid = int(USER.split(":", maxsplit=1)[0])
    for path in (image.files / "opt").rglob("*"):
        status = path.lstat()
        assert status.st_uid != uid, path
        assert path.is_symlink() or not status.st_mode & 0o002, path


class Container:
    """The image's command in a mount namespace of its own, its root read-only, as its user."""

    def __init__(self, image: Image, port: int, log: Path) -> None:
        root = image.files
        script = (
            f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && mount -t proc proc {root}/proc"
            f" && mount --bind /dev {root}/dev && mount -t tmpfs -o mode=1777 shm {root}/dev/shm"
            f' && exec chroot --userspec={USER} {root} /usr/bin/env -i "$0" "$@"'
        )
        environment = [*image.config["Env"], f"PIXELTIER_PORT={port}", "PIXELTIER_HOST=127.0.0.1"]
        environment.append("PIXELTIER_DRAIN_DELAY_S=0.2")
        self._environment = environment
        self._script = script
        self.process = self._start(*image.config["Entrypoint"], *image.config["Cmd"], out=log)
        self.log = log
        self.url = f"http://127.0.0.1:{port}"

    def _start(self, *command: str, out: Path) -> "subprocess.Popen[str]":
        with out.open("w") as stream:
            return subprocess.Popen(
                ["unshare", "--mount", "--", "bash", "-ec", self._script, *self._environment, *command],
                stdout=stream,
                stderr=stream,
                text=True,
            )

    def run(self, *command: str) -> tuple[int, str]:
        out = self.log.with_name("command.log")
        status = self._start(*command, out=out).wait(120)
        return status, out.read_text()

    def wait_ready(self) -> None:
        end = time.monotonic() + 180
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            try:
                if httpx.get(self.url + "/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[Container]:
    running = Container(image, free_port(), tmp_path / "log")
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(30)


def test_serves_without_root_on_a_read_only_root(container: Container, image: Image) -> None:
    status, said = container.run("sh", "-c", "id -u; touch /opt/x /tmp/x /x")
    assert said.splitlines()[0] == "65532"
    assert said.count("Read-only file system") == 3, said
    assert status != 0

    container.wait_ready()
    cat = (SAMPLES / "chelsea.jpg").read_bytes()
    answer = httpx.post(container.url + "/v1/classify?tier=fast", content=cat, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["index"] in range(281, 286)
    assert answer.json()["macs"]["saved_ratio"] > 0.2
    check = image.config["Healthcheck"]["Test"][1:]
    status, said = container.run("env", f"PIXELTIER_URL={container.url}", *check)
    assert (status, said.strip()) == (0, "ready"), said

    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(60) == 0, container.log.read_text()[-3000:]
    status, said = container.run("env", f"PIXELTIER_URL={container.url}", *check)
    assert status == 3, said
    assert "cannot be reached" in said
