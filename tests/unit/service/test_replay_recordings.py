"""What can be replayed: tables of arrivals, the service's log, images drawn for it; and what is said of bad lines."""

import contextlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.problems import Problem
from pixeltier.service.replay.arrivals import Recording, ReplayError
from pixeltier.service.replay.image_pool import AS_NEAR, ImagePool
from pixeltier.service.replay.reading import read_recording
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.logs import JsonFormatter
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.work.messages import Work
from tests.images import png

HEAD = "time,task,tier,image,threshold\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, width in (("small.png", 20), ("wide.png", 80)):
        (tmp_path / name).write_bytes(png(width, 10))
    return tmp_path


def _read(folder: Path, text: str | bytes, images: Path | None = None, seed: int = 0) -> Recording:
    path = folder / "recording"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_recording(path, images, seed)


# ---- tables ----------------------------------------------------------------------------------------------


def test_a_table_in_order_of_time(folder: Path) -> None:
    text = HEAD + (
        "3.5,classify,fast,small.png,\n"
        "1,super-resolve,,wide.png,\n"
        '\n2, classify ,high,"small.png",\n'
        "2,classify,,small.png,0.25\n"
    )
    found = _read(folder, text).arrivals
    assert [(one.at, one.task, one.tier, one.threshold, one.line) for one in found] == [
        (1, Task.SUPER_RESOLVE, None, None, 3),
        (2, Task.CLASSIFY, "high", None, 5),
        (2, Task.CLASSIFY, None, 0.25, 6),
        (3.5, Task.CLASSIFY, "fast", None, 2),
    ]
    assert found[0].image == folder / "wide.png"


def test_json_lines_say_the_same_as_csv(folder: Path) -> None:
    rows = [
        {"time": 1.5, "task": "classify", "tier": "fast", "image": "small.png"},
        {"time": "2", "task": "super-resolve", "threshold": 0.5, "image": "wide.png", "note": "kept"},
    ]
    as_json = _read(folder, "\n".join(map(json.dumps, rows)))
    as_csv = _read(folder, "time,task,tier,image,threshold,note\n1.5,classify,fast,small.png,,\n"
                           "2,super-resolve,,wide.png,0.5,kept\n")  # fmt: skip
    assert [(one.at, one.tier, one.threshold, one.image) for one in as_json.arrivals] == [
        (one.at, one.tier, one.threshold, one.image) for one in as_csv.arrivals
    ]


def test_timestamps_with_any_offset_and_a_byte_order_mark(folder: Path) -> None:
    times = ("2026-11-26T10:00:01Z", "2026-11-26T11:00:00.5+01:00")
    text = "\ufefftime,task,image\n" + "".join(f"{time},classify,small.png\n" for time in times)
    first, second = _read(folder, text).arrivals
    assert second.at - first.at == pytest.approx(0.5)
    assert first.line == 3


def test_images_lie_below_the_folder_that_is_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    text = "time,task,image\n0,classify,small.png\n"
    assert _read(folder, text, images=folder).arrivals[0].image == folder / "small.png"
    with pytest.raises(ReplayError, match="line 2: there is no image"):
        _read(folder, text, images=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x,classify,fast,small.png,", "time: 'x' is neither seconds nor a timestamp"),
        ("2026-11-26T10:00:00,classify,fast,small.png,", "time: 2026-11-26T10:00:00 lacks its offset"),
        ("2026-11-26T10:00:00Z,classify,fast,small.png,", "seconds and timestamps are mixed"),
        ("nan,classify,fast,small.png,", "time: seconds are a number"),
        ("inf,classify,fast,small.png,", "time: seconds are a number"),
        (",classify,fast,small.png,", "time: '' is neither"),
        ("1,upscale,fast,small.png,", "task: Input should be 'classify' or 'super-resolve'"),
        ("1,classify,fast,,", "image: "),
        ("1,classify,fast,gone.png,", "there is no image"),
        ("1,classify,fast,small.png,1.5", "threshold: "),
        ("1,classify,fast,small.png,nan", "threshold: "),
        ("1,classify,fast", "another number of cells"),
        ("1,classify,fast,small.png,,,", "another number of cells"),
        ('1,classify,fast,"small".png,', "this is not CSV"),
    ],
)
def test_a_bad_line_of_a_table_is_named(line: str, said: str, folder: Path) -> None:
    with pytest.raises(ReplayError) as caught:
        _read(folder, HEAD + "0,classify,fast,small.png,\n" + line + "\n0,classify,fast,small.png,\n")
    assert ", line 3: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        (HEAD, "no arrival"),
        ("time,tier\n", "line 1: no column task, image"),
        ("\n\ntime,tier\n", "line 3: no column task, image"),
        ("{", "line 1: this is not JSON"),
        ('{"time": 1, "task": "classify", "image": "small.png"}\n[1]\n', "line 2: "),
        ('{"time": 1, "task": "classify", "image": "small.png"}\n{"time"\n', "line 2: this is not JSON"),
        ('{"time": true, "task": "classify", "image": "small.png"}\n', "line 1: time: 'True' is neither"),
        ('{"time": 1, "task": "classify", "image": 7}\n', "line 1: image: "),
        (HEAD.encode() + b"0,classify,f\xffst,small.png,\n", "line 2: not UTF-8 (byte 0xFF)"),
        (HEAD.encode("utf-16"), "line 1: not UTF-8"),
    ],
)
def test_a_bad_table_is_refused(text: str | bytes, said: str, folder: Path) -> None:
    with pytest.raises(ReplayError) as caught:
        _read(folder, text)
    assert said in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    for head in (b"", HEAD.encode(), b'{"event": "request", "model": '):
        with contextlib.suppress(ReplayError):
            _read(tmp_path_factory.mktemp("any"), head + data)


# ---- logs ------------------------------------------------------------------------------------------------

WORK = Work(
    threshold=0.5,
    macs_dense=100,
    macs_executed=40,
    active_share=0.3,
    macs_curve=(),
    active_curve=(),
    pixels=200,
    decode_ms=1.0,
    importance_ms=2.0,
    infer_ms=3.0,
    encode_ms=4.0,
)


def _record(tier: str = "fast", images: int = 0, **facts: Any) -> RequestRecord:
    record = RequestRecord("id", "POST", 1, started=0.0, task=Task.CLASSIFY, tier=tier, tier_effective=tier)
    if images:
        for _ in range(images):
            record.of_image().work = WORK
    else:
        record.work = WORK
    record.queue_ms, record.threshold, record.ended = 5.0, 0.5, 0.018  # 18 ms in all: 15 wait and work
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def _line(record: RequestRecord, ended: float) -> str:
    """As the middleware and the formatter write it."""
    entry = logging.LogRecord("pixeltier.request", logging.INFO, "", 0, "request", (), None)
    entry.created = ended
    entry.__dict__.update({"method": "POST", "status": 200, **record.log_fields()})
    return JsonFormatter().format(entry)


def test_a_line_tells_when_its_request_came_and_what_the_service_added(folder: Path) -> None:
    other = json.dumps({"time": "2026-11-26T10:00:00+00:00", "event": "the service is ready"})
    health = json.dumps({"time": "2026-11-26T10:00:00+00:00", "event": "request", "path": "/v1/tiers"})
    found = _read(folder, "\n".join([other, _line(_record(), 1000.5), health, ""]), images=folder)
    (arrival,) = found.arrivals
    assert arrival.at == pytest.approx(1000.5 - 0.018)
    assert (arrival.task, arrival.tier, arrival.threshold, arrival.line) == (Task.CLASSIFY, "fast", None, 2)
    assert arrival.image == folder / "small.png"  # 20 * 10 pixels
    assert found.overhead_ms == pytest.approx(3.0)
    assert found.latencies_ms == [18.0]
    assert (arrival.served_at, arrival.worker_ms) == (0.5, 10.0)
    assert (found.left_out, found.far_in_size) == ({}, 0)


def test_a_long_request_came_before_the_short_ones_that_ended_first(folder: Path) -> None:
    short, long_ = _record(), _record(tier="exact", ended=9.0)
    found = _read(folder, "\n".join([_line(short, 1001), _line(long_, 1002)]), images=folder)
    assert [one.tier for one in found.arrivals] == ["exact", "fast"]


def test_several_images_are_several_arrivals(folder: Path) -> None:
    several = _record(images=3)
    several.queue_ms = several.threshold = None
    found = _read(folder, _line(several, 1000), images=folder)
    assert len(found.arrivals) == 3
    assert {(one.pixels, one.worker_ms) for one in found.arrivals} == {(200, None)}
    assert found.overhead_ms is None


def test_refused_for_load_counts_and_wrong_requests_do_not(folder: Path) -> None:
    lines = [_line(_record(), 1000)]
    for number, problem in enumerate([Problem.OVERLOADED, Problem.DEADLINE_EXCEEDED, Problem.RATE_LIMITED]):
        lines.append(_line(_record(work=None, problem=problem), 1001 + number))
    found = _read(folder, "\n".join(lines), images=folder)
    assert len(found.arrivals) == 3
    assert {one.image for one in found.arrivals} == {folder / "small.png"}  # of unknown size: the usual one
    assert found.left_out == {Problem.RATE_LIMITED.value.type: 1}
    with pytest.raises(ReplayError, match="no request that could be replayed"):
        _read(folder, lines[-1], images=folder)


def test_a_threshold_of_its_own_is_kept(folder: Path) -> None:
    (arrival,) = _read(folder, _line(_record(tier="custom"), 1000), images=folder).arrivals
    assert (arrival.tier, arrival.threshold) == ("custom", 0.5)
    lost = _record(tier="custom", threshold=None)
    both = _read(folder, "\n".join([_line(_record(), 1000), _line(lost, 1001)]), images=folder)
    assert both.left_out == {"no threshold in the log": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time": "yesterday"}, "time: "),
        ({"time": "2026-11-26T10:00:00"}, "time: "),
        ({"model": "segment"}, "model: "),
        ({"ms": {}}, "ms: the request's total is missing"),
        ({"ms": 5}, "ms: "),
        ({"outcome": None}, "outcome: "),
        ({"pixels": "many"}, "pixels: "),
    ],
)
def test_a_bad_line_of_a_log_is_named(change: dict[str, Any], said: str, folder: Path) -> None:
    good = _line(_record(), 1000)
    bad = json.dumps(json.loads(good) | change)
    with pytest.raises(ReplayError) as caught:
        _read(folder, "\n".join([good, bad]), images=folder)
    assert f"line 2: {said}" in str(caught.value)
    for broken in ("INFO: not JSON", "[]", good[:-9]):
        with pytest.raises(ReplayError, match="line 2: "):
            _read(folder, "\n".join([good, broken]), images=folder)


def test_a_log_wants_images(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="give a folder of some by --images"):
        _read(folder, _line(_record(), 1000))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReplayError, match="no JPEG, PNG or WebP below"):
        _read(folder, _line(_record(), 1000), images=tmp_path / "empty")
    (tmp_path / "empty" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ReplayError, match=r"broken\.png cannot be read"):
        _read(folder, _line(_record(), 1000), images=tmp_path / "empty")


# ---- drawing ---------------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 10**7), min_size=1, max_size=30)


@given(SIZES, st.lists(st.integers(1, 10**8), max_size=20), st.integers(0, 2**32))
def test_a_draw_is_as_near_as_any_and_the_same_again(sizes: list[int], wanted: list[int], seed: int) -> None:
    images = [(Path(f"{n}.png"), pixels) for n, pixels in enumerate(sizes)]
    pool, again = ImagePool(images, seed), ImagePool(reversed(images), seed)
    for pixels in wanted:
        path, found = pool.draw(pixels)
        assert (path, found) in images
        assert again.draw(pixels) == (path, found)
        nearest = min(max(one / pixels, pixels / one) for one in sizes)
        assert max(found / pixels, pixels / found) <= nearest * AS_NEAR * (1 + 1e-9)


def test_equal_sizes_are_all_drawn_and_the_seed_decides() -> None:
    images = [(Path(f"{n}.png"), 100) for n in range(4)]
    draws = [ImagePool(images, seed).draw(100)[0] for seed in range(100)]
    assert set(draws) == {path for path, _ in images}


def test_an_image_of_another_size_is_told(folder: Path) -> None:
    huge = _record()
    huge.work = replace(WORK, pixels=10**6)
    found = _read(folder, "\n".join([_line(_record(), 1000), _line(huge, 1001)]), images=folder)
    assert [one.image for one in found.arrivals] == [folder / "small.png", folder / "wide.png"]
    assert found.far_in_size == 1
