"""A worker's life: caps its threads, loads the models, proves they work, then does jobs.

Nothing here imports torch or numpy at the top: `prepare` must set the thread caps before either is loaded.
"""

import contextlib
import importlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pixeltier.service.telemetry import logs
from pixeltier.service.telemetry.logs import LogFormat
from pixeltier.service.work.messages import Answer, Failed, Job, NotStarted, Ready
from pixeltier.service.worker import frames, signals
from pixeltier.service.worker.job_pipe import JobPipe
from pixeltier.service.worker.progress import Advance, unwatched

if TYPE_CHECKING:
    from pixeltier.service.worker.interface import Engine

IMAGE_BLOCKS = 4
"""Blocks of at most 16 MB each in which Pillow keeps one image's memory for the next: fresh pages cost more than
decoding a small image."""

EngineFactory = Callable[[str | None], "Engine"]
"""Loads other models than `pixeltier.service.worker.engine` does, from a directory (None: the packaged weights)."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker needs to open; it crosses the pipe, so `engine` must be importable by name."""

    threads: int
    weights_dir: str | None = None
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    device: str = "cpu"
    gpu_memory_share: float = 0.9
    engine: EngineFactory | None = None
    log_format: LogFormat = "json"
    log_level: str = "info"


def cap_threads(threads: int) -> None:
    """Set every library's thread count; only what is imported after this obeys."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def settle_process(threads: int) -> None:
    """Threads and memory of a process that computes; before numpy, torch and Pillow are imported."""
    from pixeltier.models.host_memory import keep_freed_memory

    cap_threads(threads)
    os.environ.setdefault("PILLOW_BLOCKS_MAX", str(IMAGE_BLOCKS))
    keep_freed_memory()


def prepare(spec: Spec) -> None:
    """Initialise a spawned process: threads, memory, log, signals, and an end when the front process ends."""
    settle_process(spec.threads)
    logs.configure(spec.log_format, spec.log_level)
    signals.ignore_in_worker()
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    # A killed front process closes no pipe that we hold too: without this, workers would outlive it.
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


class JobRunner:
    """Does jobs with an engine; never raises."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def execute(self, jobs: tuple[Job, ...], advance: Advance = unwatched) -> list[Answer]:
        """Do jobs in order; one that fails leaves the others alone.

        `advance`: is told of the progress of a job in parts, and may end it (`pixeltier.service.worker.progress`).
        """
        from pixeltier.service.worker.runners import do

        try:
            return do(self._engine, jobs, advance)
        except Exception:
            if len(jobs) == 1:
                return [Failed(traceback.format_exc())]
        return [answer for job in jobs for answer in self.execute((job,), advance)]


def open_runner(spec: Spec) -> tuple[JobRunner, Ready]:
    """Load the engine, run it once on each task and check its numbers.

    Raises:
        RuntimeError: the self-check failed; and whatever loading raises.
    """
    started = time.perf_counter()
    if spec.engine is None:
        load = importlib.import_module("pixeltier.service.worker.engine").load
        engine = load(spec.weights_dir, spec.precision, spec.device, spec.gpu_memory_share)
    else:
        engine = spec.engine(spec.weights_dir)
    engine.set_threads(spec.threads)
    from pixeltier.service.worker.runners import self_check

    self_check(engine)
    took_ms = (time.perf_counter() - started) * 1000.0
    return JobRunner(engine), Ready(os.getpid(), engine.torch_version, engine.isa, spec.threads, took_ms)


def main(connection: socket.socket, spec: Spec) -> None:
    """A spawned process's whole life: warm up, say so, then do jobs until the front process hangs up."""
    try:
        prepare(spec)
        runner, ready = open_runner(spec)
    except Exception as error:
        reason = ": ".join(part for part in (type(error).__name__, str(error)) if part)
        with contextlib.suppress(OSError):
            frames.send(connection, [NotStarted(reason, traceback.format_exc())])
        return
    try:
        frames.send(connection, [ready])
        pipe = JobPipe(connection)
        while True:
            pipe.answer(runner.execute(pipe.next_jobs(), pipe.advance))
    except OSError:  # hung up: the front process has stopped this worker, or is gone itself
        return
