"""From settings to a pool."""

from pixeltier.service.configuration.settings import Settings
from pixeltier.service.pool.dispatcher import Dispatcher
from pixeltier.service.pool.limits import PoolLimits
from pixeltier.service.pool.process_worker import ProcessWorker
from pixeltier.service.pool.thread_worker import ThreadWorker
from pixeltier.service.work.pool import PoolObserver, Worker
from pixeltier.service.worker.startup import EngineFactory, Spec


def open_pool(settings: Settings, observer: PoolObserver, engine: EngineFactory | None = None) -> Dispatcher:
    """Build the pool the settings describe; `start` brings it up.

    Args:
        engine: what loads the models inside a worker; the real one if None. Must be importable by name.
    """
    shape = settings.shape()
    devices = settings.devices()
    specs = [
        worker_spec(settings, shape.threads, engine, devices[n % len(devices)]) for n in range(shape.slots)
    ]
    kind: type[ProcessWorker] | type[ThreadWorker] = (
        ProcessWorker if settings.pool == "process" else ThreadWorker
    )
    workers: list[tuple[str, Worker]] = [(str(n), kind(f"worker-{n}", spec)) for n, spec in enumerate(specs)]
    return Dispatcher(workers, pool_limits(settings), observer)


def worker_spec(
    settings: Settings, threads: int, engine: EngineFactory | None = None, device: str = "cpu"
) -> Spec:
    """What a worker of so many threads, on a device, needs to open."""
    return Spec(
        threads=threads,
        weights_dir=None if settings.weights_dir is None else str(settings.weights_dir),
        precision=settings.precision,
        device=device,
        gpu_memory_share=settings.gpu_memory_share,
        engine=engine,
        log_format=settings.log_format,
        log_level=settings.log_level,
    )


def pool_limits(settings: Settings) -> PoolLimits:
    """The pool's numbers."""
    return PoolLimits(
        queue_limit=settings.queue_limit,
        hang_timeout_s=settings.hang_timeout_s,
        hang_grace_s=settings.hang_grace_s,
        start_timeout_s=settings.start_timeout_s,
        start_attempts=settings.start_attempts,
        restart_backoff_s=settings.restart_backoff_s,
        restart_backoff_limit_s=settings.restart_backoff_limit_s,
        crash_limit=settings.crash_limit,
        slot_memory_bytes=settings.slot_memory_mb * 2**20,
        max_batch=settings.max_batch,
    )
