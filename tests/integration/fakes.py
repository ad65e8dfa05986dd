"""A small engine with the real one's interface, and the application around it. Torch-free.

Some thresholds are levers: they make a worker slow, hang, crash or fail.
"""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import numpy as np
from fastapi import FastAPI

from pixeltier.models.budgets import ActiveSum, ImageCost, active_windows, curve
from pixeltier.models.outcome import CostLimits, Infeasible
from pixeltier.models.results import Classification, SuperResolution
from pixeltier.service.api import access
from pixeltier.service.api.admin_tokens import AdminTokens
from pixeltier.service.api.app import create_app
from pixeltier.service.api.context import AppContext
from pixeltier.service.catalogue import Catalogue, Model
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.jobs.store import JobLimits, JobStore
from pixeltier.service.operations.desk import open_desk
from pixeltier.service.pool.wiring import open_pool
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.telemetry.tracing import Tracer
from pixeltier.service.tiers.opening import open_store
from pixeltier.service.worker.progress import Advance, unwatched

SLOW = 0.111  # 0.4 s
HANG = 0.222  # for ever
CRASH = 0.333  # every time
CRASH_ONCE = 0.444  # the first time
FAIL = 0.555  # an exception
LEAK = 0.666  # 60 MB more each time

TILE_ROWS = 256  # of an enlargement; a lever is pulled at each tile

MARKER = "CRASH_ONCE_MARKER"

_leaked: list[bytes] = []


Result = TypeVar("Result", Classification, SuperResolution)


def _pull(threshold: float) -> None:
    if threshold == SLOW:
        time.sleep(0.4)
    elif threshold == HANG:
        time.sleep(3600)
    elif threshold == CRASH:
        os._exit(9)
    elif threshold == CRASH_ONCE:
        marker = Path(os.environ[MARKER])
        if not marker.exists():
            marker.touch()
            os._exit(9)
    elif threshold == FAIL:
        raise ArithmeticError("the lever for failure was pulled")
    elif threshold == LEAK:
        _leaked.append(os.urandom(60 * 2**20))


class _Macs:
    """A twentieth of the dense MACs always, the rest on active cells."""

    def __init__(self, cells: ActiveSum, dense: int) -> None:
        self._cells = cells
        self._dense = dense

    @property
    def values(self) -> np.ndarray:
        return self._cells.values

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        share = self._cells.at(thresholds) / len(self._cells.values)
        return (self._dense * (0.05 + 0.95 * share)).astype(np.int64)


class FakeEngine:
    torch_version = "0.0-fake"
    isa = "fake"

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def _outcome(
        self,
        kind: type[Result],
        seen: np.ndarray,
        floor: float,
        limits: CostLimits,
        dense: int,
        **result: Any,
    ) -> Result | Infeasible:
        gray = seen.mean(axis=2)
        importance = (np.abs(gray - gray.mean()) / 255).astype(np.float32)
        cells = ActiveSum(importance.ravel(), np.ones(importance.size, np.int64))
        macs = _Macs(cells, dense)
        threshold = ImageCost(macs, dense, lambda: cells, importance.size).threshold(limits, floor)
        if threshold is None:
            return Infeasible(int(macs.at(np.ones(1, np.float32))[0]), dense)
        executed, active = (int(count.at(np.array([threshold], np.float32))[0]) for count in (macs, cells))
        return kind(
            threshold=threshold,
            macs_dense=dense,
            macs_executed=executed,
            active_share=active / importance.size,
            macs_curve=curve(macs),
            active_curve=active_windows(importance),
            importance_ms=0.1,
            infer_ms=0.2,
            importance=importance,
            **result,
        )

    def classify(
        self, images: Sequence[np.ndarray], thresholds: Sequence[float], limits: Sequence[CostLimits]
    ) -> list[Classification | Infeasible]:
        outcomes = []
        for image, threshold, of_image in zip(images, thresholds, limits, strict=True):
            assert image.shape == (224, 224, 3)
            assert image.dtype == np.uint8
            _pull(threshold)
            probabilities = np.full(1000, 1e-4, np.float32)
            # The strongest colour decides: red 0, green 1, blue 2.
            probabilities[int(image.reshape(-1, 3).mean(axis=0).argmax())] = 1 - 999e-4
            outcomes.append(
                self._outcome(
                    Classification, image[::8, ::8], threshold, of_image, 1000, probabilities=probabilities
                )
            )
        return outcomes

    knows_compressed = True

    def upscale(
        self,
        image: np.ndarray,
        threshold: float,
        limits: CostLimits,
        *,
        compressed: bool = False,
        advance: Advance = unwatched,
    ) -> SuperResolution | Infeasible:
        assert image.ndim == 3
        assert image.dtype == np.uint8
        tiles = -(-image.shape[0] // TILE_ROWS)
        for done in range(tiles):
            advance(done, tiles)
            _pull(threshold)
        advance(tiles, tiles)
        enlarged = image.repeat(4, axis=0).repeat(4, axis=1)
        if compressed:  # to be told apart
            enlarged = np.maximum(enlarged, 12) - 12
        dense = 100 * image.shape[0] * image.shape[1]
        return self._outcome(SuperResolution, image, threshold, limits, dense, image=enlarged)


def load_fake(weights_dir: str | None) -> FakeEngine:
    return FakeEngine()


def load_broken(weights_dir: str | None) -> FakeEngine:
    raise RuntimeError("these weights are not for this network")


@dataclass(frozen=True)
class Point:
    threshold: float
    macs_saved: float
    metrics: dict[str, float]


def fake_catalogue() -> Catalogue:
    curve = [Point(t, 0.9 * t, {"top1": 0.7 - 0.1 * t}) for t in (0.0, 0.5, 1.0)]
    models = {
        task: Model(
            task, f"fake-{task.value}", "7", 1, curve, {"task": task.value, "name": f"fake-{task.value}"}
        )
        for task in Task
    }
    return Catalogue(
        MappingProxyType(models), ["red", "green", "blue", *(f"class {n}" for n in range(3, 1000))]
    )


def fake_app(engine: Any = load_fake, tracer: Tracer | None = None, **settings: Any) -> FastAPI:
    values = {"pool": "thread", "slots": 1, "threads": 1, **settings}
    effective = Settings(**values)
    models = fake_catalogue()
    tiers = open_store(effective.tiers_file, effective.state_dir, models.models)
    metrics = Metrics(tiers)
    keys = access.load(effective.api_keys_file)
    pool = open_pool(effective, metrics, engine)
    desk = open_desk(effective, tiers, pool, metrics)
    tokens = AdminTokens(effective.admin_token_file)
    jobs = JobStore(
        JobLimits(effective.jobs_limit, effective.jobs_max_bytes, effective.jobs_keep_s, effective.jobs_dir)
    )
    return create_app(AppContext(effective, tiers, models, pool, metrics, keys, desk, tokens, jobs, tracer))


@asynccontextmanager
async def running(app: FastAPI, *, wait_ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """The application inside its lifespan, and a client on it."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            if wait_ready:
                await until_ready(client)
            yield client


async def until_ready(client: httpx.AsyncClient, timeout_s: float = 60) -> None:
    import asyncio

    end = time.monotonic() + timeout_s
    while (await client.get("/readyz")).status_code != 200:
        assert time.monotonic() < end, "never ready"
        await asyncio.sleep(0.02)
