"""Requests that are answered later: `Prefer: respond-async`, progress, results, cancellation, bounds."""

import asyncio
import gc
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from pixeltier.service.api.access import new_key
from pixeltier.service.api.prefer import LONGEST_WAIT_S, preference_of
from pixeltier.service.jobs import store
from pixeltier.service.replay.reading import read_recording
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.logs import JsonFormatter
from pixeltier.service.work.messages import SuperResolveAnswer
from tests.images import opened, png
from tests.integration.fakes import FAIL, SLOW, TILE_ROWS, fake_app, running
from tests.integration.server import serving
from tests.integration.test_several_images import samples

ASYNC = {"Prefer": "respond-async"}
TILES = 4
LARGE = png(8, TILES * TILE_ROWS)
ENLARGE = "/v1/super-resolve"
NOT_SMALL = f"{ENLARGE}?threshold={SLOW}&format=jpeg&quality=100"
SLOWLY = f"{ENLARGE}?threshold={SLOW}"  # 0.4 s a tile
OWN_OF_A_RESPONSE = {"x-request-id", "server-timing", "x-latency-predicted-ms"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as client:
        yield client


async def over(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The job's document once it is over."""
    while True:
        document: dict[str, Any] = (await client.get(url)).raise_for_status().json()
        if document["state"] not in {"queued", "running"}:
            return document
        await asyncio.sleep(0.02)


async def begun(client: httpx.AsyncClient, url: str = SLOWLY, image: bytes = LARGE) -> str:
    """Where to ask for a job."""
    answer = await client.post(url, content=image, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    location: str = answer.headers["location"]
    return location


async def test_an_enlargement_is_answered_later_as_it_would_have_been_at_once(
    client: httpx.AsyncClient,
) -> None:
    at_once = await client.post(f"{ENLARGE}?tier=fast", content=LARGE, headers={"Accept": "image/webp"})
    answer = await client.post(
        f"{ENLARGE}?tier=fast", content=LARGE, headers={**ASYNC, "Accept": "image/webp"}
    )
    document = answer.json()
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["location"] == document["status_url"]
    assert document["state"] in {"queued", "running"}
    assert document["expires"] is None

    ended = await over(client, document["status_url"])
    assert ended["state"] == "succeeded"
    assert ended["progress"] == {"done": TILES, "total": TILES}
    result = await client.get(ended["result_url"])
    assert result.status_code == 200
    assert result.content == at_once.content
    assert opened(result.content).size == (32, 4 * TILES * TILE_ROWS)
    told, usual = (
        {name: value for name, value in one.headers.items() if name not in OWN_OF_A_RESPONSE}
        for one in (result, at_once)
    )
    assert told == usual
    assert (await client.head(ended["result_url"])).headers["content-length"] == str(len(result.content))
    assert (await client.get(ended["result_url"])).content == result.content  # it may be fetched again


async def test_what_comes_within_the_wait_is_answered_at_once(client: httpx.AsyncClient) -> None:
    quick = await client.post(ENLARGE, content=png(), headers={"Prefer": "respond-async, wait=30"})
    assert (quick.status_code, quick.headers["content-type"]) == (200, "image/png")
    assert quick.headers["x-tier"]
    slow = await client.post(SLOWLY, content=LARGE, headers={"Prefer": 'wait="1"; x, Respond-Async'})
    assert slow.status_code == 202
    assert await samples(client, "pixeltier_jobs") == 1  # the quick one is not held


async def test_classification_is_answered_later_too(client: httpx.AsyncClient) -> None:
    ended = await over(client, await begun(client, f"/v1/classify?threshold={SLOW}", png(9, 5, 2)))
    assert ended["progress"] is None
    assert (await client.get(ended["result_url"])).json()["predictions"][0]["label"] == "blue"


@pytest.mark.parametrize(
    ("query", "image", "status", "type_"),
    [
        ("?tier=fast", png()[:60], 422, "undecodable-image"),
        ("?tier=turbo", png(), 422, "unknown-tier"),
        ("?threshold=2", png(), 422, "validation"),
        ("?tier=fast", b"", 422, "undecodable-image"),
    ],
)
async def test_what_is_wrong_at_sight_is_told_at_once_or_by_the_job(
    client: httpx.AsyncClient, query: str, image: bytes, status: int, type_: str
) -> None:
    answer = await client.post(ENLARGE + query, content=image, headers=ASYNC)
    if answer.status_code == 202:  # a file is found to be cut short by whoever decodes it
        ended = await over(client, answer.headers["location"])
        assert (ended["state"], ended["problem"]["type"]) == ("failed", type_)
        answer = await client.get(ended["result_url"])
    assert (answer.status_code, answer.json()["type"]) == (status, type_)


async def test_a_failure_is_kept(client: httpx.AsyncClient) -> None:
    await begun(client)  # which it waits for: it would fail before its request is answered
    posted = await client.post(f"{ENLARGE}?threshold={FAIL}", content=LARGE, headers=ASYNC)
    ended = await over(client, posted.headers["location"])
    assert (ended["state"], ended["problem"]["status"]) == ("failed", 500)
    assert ended["problem"]["request_id"] == posted.headers["x-request-id"]  # the log has it under this one
    assert (await client.get(ended["result_url"])).json()["type"] == "internal"


async def test_an_unfinished_job_has_no_result(client: httpx.AsyncClient) -> None:
    url = await begun(client)
    answer = await client.get(f"{url}/result")
    assert (answer.status_code, answer.json()["type"]) == (409, "job-unfinished")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("pool", ["thread", "process"])
async def test_a_cancelled_job_is_given_up_between_two_tiles_and_leaves_nothing(pool: str) -> None:
    rows = 40 * TILE_ROWS  # 16 s, would it run to its end
    async with running(fake_app(pool=pool)) as client:
        url = await begun(client, image=png(8, rows))
        while not (tiles := (await client.get(url)).json()["progress"]) or tiles["done"] < 2:
            await asyncio.sleep(0.02)
        started = time.monotonic()
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).json()["type"] == "not-found"
        assert (await client.delete(url)).status_code == 404
        assert (await client.post(f"{ENLARGE}?threshold=0.5", content=png())).status_code == 200
        assert time.monotonic() - started < 5  # the only worker was free again after a tile
        assert await samples(client, "pixeltier_jobs") == 0
        assert await samples(client, "pixeltier_jobs_reserved_bytes") == 0
        assert await samples(client, "pixeltier_requests_total", outcome="client-closed") == 1
        assert await samples(client, "pixeltier_worker_restarts_total") == 0
        # What was cancelled teaches nothing of how long such an image takes.
        assert (await client.post(f"{ENLARGE}?threshold=0.5", content=png(8, rows))).status_code == 200


async def test_a_cancelled_job_that_waits_never_begins(client: httpx.AsyncClient) -> None:
    first = await begun(client)
    second = await begun(
        client, image=png(8, 40 * TILE_ROWS)
    )  # it waits in the queue, or in the worker's pipe
    assert (await client.delete(second)).status_code == 204
    await asyncio.sleep(0.05)
    assert await samples(client, "pixeltier_queue_depth") == 0
    assert (await over(client, first))["state"] == "succeeded"
    started = time.monotonic()
    assert (await client.post(f"{ENLARGE}?threshold=0.5", content=png())).status_code == 200
    assert time.monotonic() - started < 3


async def test_a_kept_result_is_not_in_memory_as_well(client: httpx.AsyncClient) -> None:
    ended = await over(client, await begun(client))
    assert (await client.get(ended["result_url"])).status_code == 200
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, SuperResolveAnswer)]


async def test_a_finished_job_can_be_deleted(client: httpx.AsyncClient) -> None:
    ended = await over(client, await begun(client))
    assert await samples(client, "pixeltier_jobs_reserved_bytes") > 0
    assert (await client.delete(ended["status_url"])).status_code == 204
    assert (await client.get(ended["result_url"])).status_code == 404
    assert await samples(client, "pixeltier_jobs_reserved_bytes") == 0


async def test_a_client_that_goes_away_from_a_usual_request_frees_the_worker_too() -> None:
    with serving() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(SLOWLY, content=png(8, 40 * TILE_ROWS), timeout=1.0)
            started = time.monotonic()
            assert (
                await client.post(f"{ENLARGE}?threshold=0.5", content=png(), timeout=30)
            ).status_code == 200
            assert time.monotonic() - started < 5


async def test_results_are_kept_for_their_time() -> None:
    async with running(fake_app(jobs_keep_s=1)) as client:
        ended = await over(client, await begun(client))
        assert (await client.get(ended["result_url"])).status_code == 200
        await asyncio.sleep(1.2)
        answer = await client.get(ended["result_url"])
        assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
        assert await samples(client, "pixeltier_jobs") == 0


async def test_space_is_set_aside_before_the_work_and_given_back(tmp_path: Path) -> None:
    most = 64 * 1024 + 8 * TILES * TILE_ROWS * 87  # one large image, and not two
    async with running(fake_app(jobs_max_bytes=most, jobs_keep_s=3)) as client:
        first = await begun(client)
        answer = await client.post(SLOWLY, content=LARGE, headers=ASYNC)
        assert (answer.status_code, answer.json()["type"]) == (503, "overloaded")
        assert 1 <= int(answer.headers["retry-after"]) <= store.RETRY_S
        assert (await over(client, first))["state"] == "succeeded"
        assert await samples(client, "pixeltier_jobs_reserved_bytes") < most / 2  # now what it really takes
        # A result that could never be held is answered at once: a preference is no demand (RFC 7240, 2).
        larger = await client.post(
            f"{ENLARGE}?threshold=0.5", content=png(16, TILES * TILE_ROWS), headers=ASYNC
        )
        assert larger.status_code == 200
        assert "preference-applied" not in larger.headers


async def test_jobs_are_bounded_in_number() -> None:
    async with running(fake_app(jobs_limit=2)) as client:
        for _ in range(2):
            await begun(client, SLOWLY, png())
        answer = await client.post(ENLARGE, content=png(), headers=ASYNC)
        assert (answer.status_code, answer.json()["type"]) == (503, "overloaded")


async def test_no_space_at_all_means_no_jobs() -> None:
    async with running(fake_app(jobs_max_bytes=0)) as client:
        assert (await client.post(ENLARGE, content=png(), headers=ASYNC)).status_code == 200


async def test_several_images_are_answered_at_once(client: httpx.AsyncClient) -> None:
    files = [("file", ("a.png", png())), ("file", ("b.png", png()))]
    assert (await client.post(ENLARGE, files=files, headers=ASYNC)).status_code == 200


async def test_results_lie_in_the_directory_without_a_name(tmp_path: Path) -> None:
    async with running(fake_app(jobs_dir=tmp_path)) as client:
        ended = await over(client, await begun(client, NOT_SMALL, png(400, 400)))
        size = int((await client.head(ended["result_url"])).headers["content-length"])
        assert size > 64 * 1024
        assert list(tmp_path.iterdir()) == []
        assert _held_below(tmp_path) == 1
        await client.delete(ended["status_url"])
        assert _held_below(tmp_path) == 0


def _held_below(directory: Path) -> int:
    """Open files of this process there, with a name or without."""
    held = (Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    return sum(one.is_symlink() and str(one.readlink()).startswith(str(directory)) for one in held)


async def test_a_result_that_cannot_be_stored_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "results"
    directory.mkdir()
    async with running(fake_app(jobs_dir=directory)) as client:
        directory.rmdir()
        ended = await over(client, await begun(client, NOT_SMALL, png(400, 400)))
        assert (ended["state"], ended["problem"]["type"]) == ("failed", "result-not-stored")
        assert (await client.get(ended["result_url"])).status_code == 507


async def test_a_job_of_an_earlier_run_says_so(client: httpx.AsyncClient) -> None:
    async with running(fake_app()) as earlier:
        ended = await over(earlier, await begun(earlier))
    for url in (ended["status_url"], ended["events_url"], ended["result_url"]):
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["type"]) == (410, "job-lost")
    assert (await client.get("/v1/jobs/nonsense")).status_code == 404


async def test_a_job_belongs_to_its_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    (mine, stanza), (other, another) = new_key("mine"), new_key("other")
    keys.write_text(f"anonymous = true\n{stanza}concurrency = 1\n{another}")
    async with running(fake_app(api_keys_file=keys)) as client:
        with_key = {"Authorization": f"Bearer {mine}"}
        answer = await client.post(SLOWLY, content=LARGE, headers=ASYNC | with_key)
        url = answer.headers["location"]
        for headers in ({}, {"Authorization": f"Bearer {other}"}):
            for method in ("GET", "DELETE"):
                assert (await client.request(method, url, headers=headers)).json()["type"] == "not-found"
        assert (await client.get(url, headers={"Authorization": "Bearer wrong"})).status_code == 401
        # The image is in flight until its job is over, though its request was answered.
        refused = await client.post(ENLARGE, content=png(), headers=with_key)
        assert (refused.status_code, refused.json()["type"]) == (429, "rate-limited")
        client.headers.update(with_key)
        assert (await over(client, url))["state"] == "succeeded"
        assert (await client.post(ENLARGE, content=png())).status_code == 200
        # Without a key of its own a job is whoever's that knows its id.
        del client.headers["Authorization"]
        assert (await over(client, await begun(client)))["state"] == "succeeded"


async def test_an_image_is_counted_once_and_when_it_is_done(client: httpx.AsyncClient) -> None:
    url = await begun(client)
    assert await samples(client, "pixeltier_requests_total") == 0
    assert await samples(client, "http_requests_total", route=ENLARGE, status="202") == 1
    ended = await over(client, url)
    await client.get(ended["result_url"])
    assert await samples(client, "pixeltier_requests_total", outcome="ok") == 1
    assert await samples(client, "pixeltier_requests_total") == 1
    assert await samples(client, "pixeltier_macs_executed_total") > 0
    assert await samples(client, "pixeltier_jobs", state="succeeded") == 1


async def test_the_log_tells_of_an_image_once(
    client: httpx.AsyncClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="pixeltier.request")
    ended = await over(client, await begun(client))
    await client.get(ended["result_url"])
    (tmp_path / "photo.png").write_bytes(LARGE)
    (tmp_path / "log").write_text("\n".join(map(JsonFormatter().format, caplog.records)))
    (arrival,) = read_recording(tmp_path / "log", tmp_path, seed=0).arrivals
    assert (arrival.task, arrival.threshold) == (Task.SUPER_RESOLVE, SLOW)
    assert arrival.pixels == 8 * TILES * TILE_ROWS
    assert arrival.worker_ms is not None
    began = datetime.fromisoformat(ended["created"]).timestamp()
    assert arrival.at == pytest.approx(began, abs=0.5)  # when it was asked for, not when it was done


async def test_a_job_has_the_longest_deadline_unless_it_names_one() -> None:
    async with running(fake_app(default_timeout_ms=300, max_timeout_ms=60_000)) as client:
        assert (await client.post(SLOWLY, content=LARGE)).status_code == 504
        assert (await over(client, await begun(client)))["state"] == "succeeded"
        soon = ASYNC | {"X-Request-Timeout-Ms": "600"}
        answer = await client.post(f"{ENLARGE}?threshold={SLOW}&scale=2", content=LARGE, headers=soon)
        if answer.status_code == 202:  # else it was known at once that the time does not suffice
            answer = await client.get((await over(client, answer.headers["location"]))["result_url"])
        assert (answer.status_code, answer.json()["type"]) == (504, "deadline-exceeded")


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_events_tell_of_every_tile_as_it_is_done() -> None:
    with serving() as url, httpx.Client(base_url=url, timeout=30) as client:
        job = client.post(SLOWLY, content=LARGE, headers=ASYNC).json()
        began = time.monotonic()
        seen, times = [], []
        with client.stream("GET", job["events_url"]) as stream:
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
            for event in events(stream.iter_lines()):
                seen.append(event)
                times.append(time.monotonic() - began)
        done = [one["progress"]["done"] for _, one in seen if "progress" in one]
        assert done == sorted(done)
        assert set(done) == set(range(TILES + 1))
        assert [name for name, _ in seen] == ["progress"] * (len(seen) - 1) + ["over"]
        assert seen[-1][1]["state"] == "succeeded"
        assert times[-1] - times[0] > 1.0  # as it happens, not all at the end
        with client.stream("GET", job["events_url"]) as stream:  # of what is over, how it ended
            assert [name for name, _ in events(stream.iter_lines())] == ["over"]


def test_events_end_when_the_job_is_cancelled() -> None:
    with serving() as url, httpx.Client(base_url=url, timeout=30) as client:
        job = client.post(SLOWLY, content=LARGE, headers=ASYNC).json()
        with client.stream("GET", job["events_url"]) as stream:
            following = events(stream.iter_lines())
            next(following)
            assert httpx.delete(url + job["status_url"]).status_code == 204
            *_, (name, last) = following
        assert (name, last["state"]) == ("over", "cancelled")


def test_a_silent_stream_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixeltier.service.api.routes.jobs.STILL_HERE_S", 0.05)
    with serving() as url, httpx.Client(base_url=url, timeout=30) as client:
        job = client.post(SLOWLY, content=png(), headers=ASYNC).json()
        with client.stream("GET", job["events_url"]) as stream:
            assert ": still here" in list(stream.iter_lines())


async def test_a_stop_ends_jobs_and_streams_at_once() -> None:
    app = fake_app()
    async with running(app) as client:
        url = await begun(client, image=png(8, 40 * TILE_ROWS))
        stream = asyncio.ensure_future(client.get(f"{url}/events"))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await app.state.context.jobs.stop()
        assert '"cancelled"' in (await stream).text
        assert time.monotonic() - started < 2
        answer = await client.post(ENLARGE, content=png(), headers=ASYNC)
        assert (answer.status_code, answer.json()["type"]) == (503, "not-ready")


def _prefer(*lines: str) -> Request:
    return Request({"type": "http", "headers": [(b"prefer", line.encode("latin-1")) for line in lines]})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), (False, 0)),
        (("respond-async",), (True, 0)),
        (("Respond-Async ; a=b", "wait=10"), (True, 10)),
        (('wait="7", respond-async, wait=9',), (True, 7)),
        (("respond-async, wait=1e3",), (True, 0)),
        (("respond-async, wait=-1",), (True, 0)),
        (("respond-async, wait=99999999",), (True, LONGEST_WAIT_S)),
        (("respond-asynchronously",), (False, 0)),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(lines: tuple[str, ...], expected: tuple[bool, float]) -> None:
    found = preference_of(_prefer(*lines))
    assert (found.respond_async, found.wait_s) == expected


@given(st.text(st.characters(max_codepoint=255)))
def test_prefer_is_never_refused(text: str) -> None:
    assert 0 <= preference_of(_prefer(text)).wait_s <= LONGEST_WAIT_S


def test_ids_are_secrets_of_one_process() -> None:
    first, second = (store.JobStore(store.JobLimits(10, 100, 1)) for _ in range(2))
    assert first._instance != second._instance
    assert re.fullmatch(r"[0-9a-f]{8}", first._instance)
