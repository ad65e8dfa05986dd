"""The Ray Serve application: fronts with the FastAPI app, workers with the models.

    serve run pixeltier.service.ray.application:build slots_most=8 threads=2

Static settings are the PIXELTIER_* variables of the shell that runs this; those that name files must be good on every
machine of the cluster.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from pixeltier.service.configuration import settings
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.pool.dispatcher import Dispatcher
from pixeltier.service.pool.wiring import pool_limits, worker_spec
from pixeltier.service.ray import targets
from pixeltier.service.ray.replica import WorkerReplica
from pixeltier.service.ray.versions import SharedVersions, open_keeper
from pixeltier.service.ray.worker import ServeWorker
from pixeltier.service.server.serve import assemble
from pixeltier.service.telemetry import logs
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.tiers.history import VersionTakenError
from pixeltier.service.work.pool import Worker
from pixeltier.service.worker.startup import EngineFactory

RUNNING_AND_NEXT = 2
"""Calls a worker replica may hold: the one at work, and one on its way, so that it never waits for the network."""

FRONT_REQUESTS = 1000
"""Requests a front replica may hold: its own queue and limits decide, not Ray's."""

START_TRIES = 5


class Scale(BaseModel):
    """How much of it there is; the arguments of `serve run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fronts: int = Field(1, ge=1, description="Replicas of the application.")
    front_cpus: float = Field(0.5, ge=0, description="Processors Ray sets aside for each front.")
    slots_least: int = Field(1, ge=1, description="Slot replicas when nobody asks for anything.")
    slots_most: int = Field(4, ge=1, description="Slot replicas at most.")
    threads: int = Field(1, ge=1, description="Threads, and so processors, of each worker.")
    gpus: int = Field(0, ge=0, le=1, description="GPUs of each worker: 0, or 1.")
    ongoing: float = Field(
        1.5, gt=0, description="Jobs at a worker, waiting ones included, that scaling aims at."
    )
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(300.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Scale":
        if self.slots_least > self.slots_most:
            raise ValueError("slots_least is above slots_most")
        return self


class Front:
    """The application on a replica. Its pool's workers reach any worker replica."""

    def __init__(self, handle: Any, values: dict[str, Any], workers: int) -> None:
        # Another front may be asked for a job than the one that has it.
        chosen = Settings(**values | {"jobs_max_bytes": 0})
        logs.configure(chosen.log_format, chosen.log_level)
        keeper = open_keeper(None if chosen.state_dir is None else str(chosen.state_dir))
        versions = SharedVersions(keeper)

        def make_pool(metrics: Metrics) -> Dispatcher:
            each: list[tuple[str, Worker]] = [(str(n), ServeWorker(handle)) for n in range(workers)]
            # Ray Serve decides when a replica is beyond help; a front waits for the next one.
            return Dispatcher(each, replace(pool_limits(chosen), start_attempts=None), metrics)

        self._app = _assemble(chosen, versions, make_pool)
        targets.install(self._app, keeper)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve asks for once the replica is made; it runs the app's lifespan too."""
        return self._app


def _assemble(
    chosen: Settings, versions: SharedVersions, make_pool: Callable[[Metrics], Dispatcher]
) -> FastAPI:
    """Fronts start together: where another wrote the first version in the same moment, go on with that one."""
    for _ in range(START_TRIES):
        with contextlib.suppress(VersionTakenError):
            return assemble(chosen, versions, make_pool)
    return assemble(chosen, versions, make_pool)


def application(scale: Scale, values: Settings, engine: EngineFactory | None = None) -> serve.Application:
    """Both deployments, bound; `serve.run` deploys them.

    Args:
        engine: what loads the models inside a worker; the real one if None. Must be importable on every machine.
    """
    quiet = LoggingConfig(enable_access_log=False)  # the application logs each request itself
    worker = serve.deployment(
        name="slot",
        max_ongoing_requests=RUNNING_AND_NEXT,
        max_queued_requests=-1,  # a front's workers bound what waits at Ray, its queue what waits for them
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.slots_least,
            max_replicas=scale.slots_most,
            initial_replicas=scale.slots_least,
            target_ongoing_requests=scale.ongoing,
            upscale_delay_s=scale.upscale_delay_s,
            downscale_delay_s=scale.downscale_delay_s,
        ),
        ray_actor_options={"num_cpus": scale.threads, "num_gpus": scale.gpus},
        health_check_period_s=2,
        logging_config=quiet,
        graceful_shutdown_timeout_s=values.drain_timeout_s,
    )(WorkerReplica)
    front = serve.deployment(
        name="front",
        num_replicas=scale.fronts,
        max_ongoing_requests=FRONT_REQUESTS,
        ray_actor_options={"num_cpus": scale.front_cpus},
        health_check_period_s=2,
        logging_config=quiet,
        graceful_shutdown_timeout_s=values.drain_timeout_s,
    )(serve.ingress()(Front))
    # Ray shows a replica the GPU it was given and no other: that is its number 0.
    spec = worker_spec(values, scale.threads, engine, "cuda:0" if scale.gpus else "cpu")
    handle = worker.bind(spec, values.hang_timeout_s)
    return front.bind(handle, values.model_dump(), RUNNING_AND_NEXT * scale.slots_most)


def build(scale: Scale) -> serve.Application:
    """What `serve run pixeltier.service.ray.application:build` calls; settings come from the environment."""
    return application(scale, settings.load())
