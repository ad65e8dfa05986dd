"""The application under Ray Serve on a local cluster: two fronts, two workers. Alone: `make ray-test`."""

import importlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixeltier.client import Client
from pixeltier.service.configuration.settings import Settings
from tests.e2e.conftest import free_port
from tests.images import encoded, photo
from tests.integration.fakes import SLOW, load_fake

ray = importlib.import_module("ray")
from ray import serve  # noqa: E402

from pixeltier.service.ray.application import Scale, application  # noqa: E402

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
QUEUE_LIMIT = 6
CLIENTS = 6
TOKEN = "a-token-for-this-test-alone"
PATIENCE = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
IMAGE = encoded(photo(32, 32))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    tokens = tmp_path_factory.mktemp("admin") / "tokens"
    tokens.write_text(f"tester:{TOKEN}\n")
    # A machine that does other things too must not make Ray give up on its own proxy.
    os.environ.update(PATIENCE)
    _start_cluster()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    scale = Scale(fronts=2, front_cpus=0.1, slots_least=2, slots_most=2)
    try:
        settings = Settings(queue_limit=QUEUE_LIMIT, admin_token_file=tokens)
        serve.run(application(scale, settings, load_fake), blocking=False)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def _start_cluster() -> None:
    for last in (False, False, False, True):
        try:
            # Ray starts a process for each processor: no more than the replicas ask for.
            ray.init(
                num_cpus=3,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                namespace="pixeltier-test",
                object_store_memory=80 * 2**20,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
            )
            return
        except Exception as error:
            # It waits 30 s for its own processes and no setting prolongs that.
            ray.shutdown()
            if last or "timed out during startup" not in str(error):
                raise


def _replicas(deployment: str) -> list[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in named if one["name"].startswith(f"SERVE_REPLICA::default#{deployment}#")]


def _kill_one(deployment: str) -> None:
    actor = ray.get_actor(_replicas(deployment)[0], namespace="serve")
    ray.kill(actor, no_restart=True)


def _until(condition: Any, timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def _classify(url: str, query: str = "threshold=0.5") -> httpx.Response:
    return httpx.post(f"{url}/v1/classify?{query}", content=IMAGE, timeout=60)


def test_the_same_answers_as_on_one_machine(url: str) -> None:
    answer = _classify(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-macs-dense"] == "1000"
    assert "queue;dur=" in answer.headers["server-timing"]
    enlarged = httpx.post(f"{url}/v1/super-resolve?tier=fast", content=IMAGE, timeout=60)
    assert enlarged.headers["content-type"] == "image/png"
    wrong = httpx.post(f"{url}/v1/classify?tier=quick", content=IMAGE, timeout=60)
    assert (wrong.status_code, wrong.json()["type"]) == (422, "unknown-tier")
    assert httpx.get(f"{url}/readyz").status_code == 200
    assert httpx.get(f"{url}/v2/models/classify/ready").status_code == 200
    assert "pixeltier_macs_executed_total" in httpx.get(f"{url}/metrics").text


def test_more_than_the_queue_holds_is_turned_away_with_a_time(url: str) -> None:
    """Two fronts, two workers and six places in the queue each: of 40 clients with slow jobs most find none."""
    load = Load(40, lambda: _classify(url, f"threshold={SLOW}"))
    try:
        _until(lambda: any(answer.status_code == 503 for answer in load.outcomes), 30, "one is turned away")
    finally:
        answers = load.stop()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}, statuses
    assert statuses[200] >= 2 * QUEUE_LIMIT
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["type"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1


def test_a_change_of_the_tiers_reaches_every_front(url: str) -> None:
    """Whichever front took it; and both agree on whose change is the next."""
    before = httpx.get(f"{url}/admin/v1/tiers", headers=OPERATOR).json()["version"]
    change = {"tiers": {"fastest": {"thresholds": {"classify": 0.99}}}}
    headers = {**OPERATOR, "If-Match": f'"{before}"', "X-Change-Reason": "a test"}
    changed = httpx.patch(f"{url}/admin/v1/tiers", json=change, headers=headers)
    assert changed.status_code == 200, changed.text

    def told() -> set[str]:
        # Ray Serve picks a front for each request: of thirty both get some.
        return {_classify(url, "tier=fastest").headers["x-threshold"] for _ in range(30)}

    _until(lambda: told() == {"0.99"}, 40, "every front has the new threshold")
    late = httpx.patch(f"{url}/admin/v1/tiers", json=change, headers=headers)
    assert (late.status_code, late.json()["type"]) == (412, "config-conflict")


def test_every_front_is_scraped_by_itself(url: str) -> None:
    """Through Ray's proxy a scrape reaches one front; the listed addresses add up to all that was asked."""
    _until(lambda: len(_targets(url)) == 2, 30, "both fronts say where they listen")
    before = _classified(url)
    for _ in range(10):
        assert _classify(url).status_code == 200
    assert _classified(url) - before == 10


def _targets(url: str) -> list[str]:
    found: list[str] = httpx.get(f"{url}/metrics/targets").json()[0]["targets"]
    return found


def _classified(url: str) -> float:
    name = 'pixeltier_requests_total{model="classify",outcome="ok",tier="custom"}'
    pages = [httpx.get(f"http://{target}/metrics").text for target in _targets(url)]
    return sum(
        float(line.split()[1]) for page in pages for line in page.splitlines() if line.startswith(name)
    )


class Load:
    """Clients that ask one request after the other until told to stop."""

    def __init__(self, clients: int, ask: Any) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self.outcomes: list[Any] = []
        self._futures = [self._pool.submit(self._run, ask) for _ in range(clients)]

    def _run(self, ask: Any) -> None:
        while not self._stop.is_set():
            self.outcomes.append(ask())

    def stop(self) -> list[Any]:
        self._stop.set()
        for future in self._futures:
            future.result(120)
        self._pool.shutdown()
        return self.outcomes


def test_a_killed_slot_costs_no_request(url: str) -> None:
    """Its jobs in flight are done again by the other; no client retries here, and none sees anything but 200."""
    _until(lambda: len(_replicas("slot")) == 2, 60, "two workers")
    load = Load(CLIENTS, lambda: _classify(url, f"threshold={SLOW}").status_code)
    time.sleep(1.5)
    _kill_one("slot")
    time.sleep(2.5)
    outcomes = load.stop()
    assert Counter(outcomes).keys() == {200}, Counter(outcomes)
    assert len(outcomes) >= CLIENTS
    _until(lambda: len(_replicas("slot")) == 2, 60, "Ray Serve starts another")


def test_a_killed_front_costs_only_what_it_held_and_clients_ask_again(url: str) -> None:
    _until(lambda: len(_replicas("front")) == 2, 60, "two fronts")

    def ask() -> str:
        with Client(url, timeout_s=60) as client:
            return client.classify(IMAGE, threshold=SLOW).cost.tier

    load = Load(CLIENTS, ask)
    time.sleep(1.5)
    _kill_one("front")
    time.sleep(2.5)
    outcomes = load.stop()
    assert Counter(outcomes).keys() == {"custom"}
    assert len(outcomes) >= CLIENTS
    _until(lambda: len(_replicas("front")) == 2, 60, "Ray Serve starts another")
