"""The whole path on real weights, through a real server process."""

import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import SAMPLES, Served, serve
from tests.images import encoded, opened, photo, png

TIERS = ("exact", "high", "balanced", "fast", "fastest")
CATS = range(281, 286)


def _small(size: int = 96) -> bytes:
    image = Image.open(SAMPLES / "chelsea.jpg").crop((130, 60, 130 + size, 60 + size))
    return encoded(image)


def test_every_tier_names_a_cat(served: Served, cat: bytes) -> None:
    executed = []
    for tier in TIERS:
        answer = httpx.post(f"{served.url}/v1/classify?tier={tier}", content=cat, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["index"] in CATS, (tier, answer.json()["predictions"])
        executed.append(int(answer.headers["x-macs-executed"]))
    # The base is sure of this cat: below `exact` it may answer alone.
    assert all(faster <= better for better, faster in pairwise(executed)), executed
    assert executed[-1] < 0.25 * executed[0]


def test_super_resolution_is_four_times_and_cheaper_by_tier(served: Served, cat: bytes) -> None:
    width, height = opened(cat).size
    executed = []
    for tier in TIERS:
        answer = httpx.post(f"{served.url}/v1/super-resolve?tier={tier}", content=cat, timeout=120)
        assert answer.status_code == 200, answer.text
        assert opened(answer.content).size == (4 * width, 4 * height)
        executed.append(int(answer.headers["x-macs-executed"]))
    # A photo as smooth as this one may have nothing left to compute at the last two tiers.
    assert all(faster < better for better, faster in pairwise(executed[:-1])), executed
    assert executed[-1] <= executed[-2]


def test_super_resolution_beats_nothing_at_all(served: Served) -> None:
    """At every tier the result is closer to the original than nearest neighbour is."""
    original = Image.open(SAMPLES / "astronaut.jpg").convert("RGB").crop((0, 0, 384, 384))
    small = original.resize((96, 96), Image.Resampling.BICUBIC)

    def error(image: Image.Image) -> float:
        difference = np.asarray(image.convert("RGB")).astype(float) - np.asarray(original)
        return float(np.square(difference).mean())

    bicubic = error(small.resize((384, 384), Image.Resampling.BICUBIC))
    for tier in ("exact", "fastest"):
        answer = httpx.post(f"{served.url}/v1/super-resolve?tier={tier}", content=encoded(small), timeout=120)
        assert error(opened(answer.content)) < bicubic, tier


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 7), (17, 5), (64, 1), (1, 300)])
def test_odd_sizes(served: Served, size: tuple[int, int]) -> None:
    body = encoded(photo(*size))
    enlarged = httpx.post(f"{served.url}/v1/super-resolve?tier=balanced", content=body, timeout=60)
    assert opened(enlarged.content).size == (4 * size[0], 4 * size[1])
    assert httpx.post(f"{served.url}/v1/classify", content=body, timeout=60).status_code == 200


def test_alpha_survives(served: Served) -> None:
    image = photo(20, 12)
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 20).astype(np.uint8), (12, 1))))
    found = opened(httpx.post(f"{served.url}/v1/super-resolve", content=encoded(image), timeout=60).content)
    assert (found.mode, found.size) == ("RGBA", (80, 48))
    assert found.getchannel("A").getextrema()[0] < 10


def test_the_docs_page_and_the_document(served: Served) -> None:
    page = httpx.get(f"{served.url}/docs")
    assert page.status_code == 200
    assert "/v1/classify" in page.text
    assert httpx.get(f"{served.url}/openapi.json").json()["openapi"].startswith("3.1")


def test_tiers_expect_less_work_and_no_better_quality(served: Served) -> None:
    document = httpx.get(f"{served.url}/v1/tiers").json()
    for model in ("classify", "super-resolve"):
        saved = [tier["models"][model]["expected"]["macs_saved"] for tier in document["tiers"]]
        assert saved == sorted(saved), model


def test_metrics_agree_with_headers(served: Served, cat: bytes) -> None:
    def counters() -> dict[str, float]:
        text = httpx.get(f"{served.url}/metrics").text
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("model") == "classify" and sample.labels.get("tier") == "fast"
            if sample.name.startswith(("pixeltier_macs", "pixeltier_request_macs_saved_ratio_sum"))
        }

    before = counters()
    answers = [httpx.post(f"{served.url}/v1/classify?tier=fast", content=cat, timeout=60) for _ in range(3)]
    after = counters()
    gained = {name: after[name] - before[name] for name in before}
    assert gained["pixeltier_macs_dense_total"] == sum(int(one.headers["x-macs-dense"]) for one in answers)
    assert gained["pixeltier_macs_executed_total"] == sum(
        int(one.headers["x-macs-executed"]) for one in answers
    )
    assert gained["pixeltier_request_macs_saved_ratio_sum"] == pytest.approx(
        sum(float(one.headers["x-macs-saved-ratio"]) for one in answers), abs=1e-5
    )


def test_the_front_process_has_no_torch(served: Served) -> None:
    maps = Path(f"/proc/{served.process.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    assert "libtorch" not in maps.read_text()


@pytest.mark.parametrize(
    ("body", "status", "type_"),
    [
        (b"", 422, "undecodable-image"),
        (b"not an image", 422, "undecodable-image"),
        ((SAMPLES / "chelsea.jpg").read_bytes()[:9000], 422, "undecodable-image"),
    ],
)
def test_bad_input_leaves_the_worker_alive(
    served: Served, cat: bytes, body: bytes, status: int, type_: str
) -> None:
    for route in ("classify", "super-resolve"):
        answer = httpx.post(f"{served.url}/v1/{route}", content=body)
        assert (answer.status_code, answer.json()["type"]) == (status, type_)
    assert httpx.post(f"{served.url}/v1/classify", content=cat, timeout=60).status_code == 200


def test_a_bomb_of_100_megapixels(served: Served) -> None:
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    for route in ("classify", "super-resolve"):
        answer = httpx.post(f"{served.url}/v1/{route}", content=bomb.getvalue())
        assert (answer.status_code, answer.json()["type"]) == (413, "image-too-large")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_commands_of_the_readme(served: Served, tmp_path: Path) -> None:
    def curl(*arguments: str) -> str:
        return subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True).stdout

    photo_file = f"@{SAMPLES / 'chelsea.jpg'}"
    raw = curl("--data-binary", photo_file, f"{served.url}/v1/classify?tier=fast")
    assert json.loads(raw)["predictions"][0]["index"] in CATS
    form = curl("-F", f"file={photo_file}", f"{served.url}/v1/classify?tier=fast")
    assert json.loads(form)["predictions"] == json.loads(raw)["predictions"]
    (tmp_path / "in.png").write_bytes(png(30, 20))
    target = tmp_path / "out.png"
    curl(
        "--data-binary",
        f"@{tmp_path / 'in.png'}",
        f"{served.url}/v1/super-resolve?tier=fast",
        "-o",
        str(target),
    )
    assert Image.open(target).size == (120, 80)


def test_kill_9_of_a_slot_and_a_drain(tmp_path: Path, cat: bytes) -> None:
    """A worker is killed under load: all are answered. SIGTERM under load: what was accepted is done.

    The worker is stopped until the jobs are where the test wants them, however fast or busy the machine is.
    """
    with serve(
        tmp_path / "log", slots="1", threads="1", restart_backoff_s="0.05", drain_timeout_s="240"
    ) as served:
        killed = _stopped_slot(served)
        load = _Load(served)
        os.kill(killed, signal.SIGKILL)
        load.check()

        drained = _stopped_slot(served)
        load = _Load(served)
        served.process.send_signal(signal.SIGTERM)
        _wait_for(lambda: _refused(served))
        os.kill(drained, signal.SIGCONT)
        load.check()
        assert served.process.wait(300) == 0
        assert "Traceback" not in served.log.read_text()
        assert not [pid for pid in (killed, drained) if Path(f"/proc/{pid}").exists()]


class _Load:
    """Three requests that the service has begun, one of them in the worker at least."""

    def __init__(self, served: Served) -> None:
        def ask() -> None:
            url = f"{served.url}/v1/super-resolve?tier=exact"
            self._answers.append(httpx.post(url, content=_small(160), timeout=600))

        self._answers: list[httpx.Response] = []
        self._threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        _wait_for(
            lambda: (
                _gauge(served, "pixeltier_workers", state="busy") == 1
                and _gauge(served, "http_requests_in_progress") == 3 + 1  # and the one that asks
            )
        )

    def check(self) -> None:
        """All three were answered with a result."""
        for thread in self._threads:
            thread.join()
        assert [answer.status_code for answer in self._answers] == [200] * 3, [
            answer.text[:200] for answer in self._answers
        ]


def _stopped_slot(served: Served) -> int:
    (pid,) = [pid for pid in _descendants(served.process.pid) if "spawn_main" in _command(pid)]
    os.kill(pid, signal.SIGSTOP)
    return pid


def _gauge(served: Served, name: str, **labels: str) -> float:
    text = httpx.get(f"{served.url}/metrics", timeout=60).text
    return next(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _refused(served: Served) -> bool:
    try:
        httpx.get(f"{served.url}/healthz", timeout=60)
    except httpx.TransportError:
        return True
    return False


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            if parent == pid:
                children.append(int(folder.name))
    return children + [deeper for child in children for deeper in _descendants(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_each_request_is_one_json_line(served: Served) -> None:
    httpx.post(f"{served.url}/v1/classify?tier=fast", content=b"x", headers={"x-request-id": "log-test"})
    time.sleep(0.2)
    lines = [json.loads(line) for line in served.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "log-test"]
    assert line["status"] == 422
    assert line["outcome"] == "undecodable-image"
    assert any(line["event"] == "starting" and line["configuration"]["port"] for line in lines)


def test_the_service_answers_what_the_models_answer(tmp_path: Path, cat: bytes) -> None:
    """In fp32 and through HTTP, queue, pipe and codecs: the same numbers as the engine called directly."""
    from pixeltier.models.engine import Classifier, SuperResolver
    from pixeltier.models.images import classify_input

    classifier, resolver = Classifier.load(precision="fp32"), SuperResolver.load(precision="fp32")
    small = np.array(opened(_small(40)))
    seen = classify_input(Image.open(io.BytesIO(cat)).convert("RGB"))
    with serve(tmp_path / "log", precision="fp32", slots="1", threads="1") as served:
        for threshold in (0.0, 0.4, 0.9):
            query = f"?threshold={threshold}"
            (direct,) = classifier.classify([seen], [threshold])
            answer = httpx.post(f"{served.url}/v1/classify{query}&top_k=1000", content=cat, timeout=60)
            assert int(answer.headers["x-macs-executed"]) == direct.macs_executed
            found = {one["index"]: one["probability"] for one in answer.json()["predictions"]}
            assert [found[n] for n in range(1000)] == pytest.approx(direct.probabilities.tolist(), abs=1e-4)

            enlarged = resolver.upscale(small, threshold)
            answer = httpx.post(f"{served.url}/v1/super-resolve{query}", content=_small(40), timeout=60)
            assert int(answer.headers["x-macs-executed"]) == enlarged.macs_executed
            difference = np.asarray(opened(answer.content)).astype(int) - enlarged.image
            assert np.abs(difference).max() <= 1
