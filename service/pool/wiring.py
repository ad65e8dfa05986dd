"""From settings to a pool."""

from service.pool.dispatcher import Dispatcher, Limits
from service.pool.interface import Observer, Slot
from service.pool.process_slot import ProcessSlot
from service.pool.thread_slot import ThreadSlot
from service.settings import Settings
from service.worker.slot import EngineFactory, Spec


def open_pool(settings: Settings, observer: Observer, engine: EngineFactory | None = None) -> Dispatcher:
    """Build the pool the settings describe; `start` brings it up.

    Args:
        engine: what loads the models inside a slot; the real one if None. Must be importable by name.
    """
    shape = settings.shape()
    devices = settings.devices()
    specs = [
        worker_spec(settings, shape.threads, engine, devices[n % len(devices)]) for n in range(shape.slots)
    ]
    kind: type[ProcessSlot] | type[ThreadSlot] = ProcessSlot if settings.pool == "process" else ThreadSlot
    slots: list[tuple[str, Slot]] = [(str(n), kind(f"slot-{n}", spec)) for n, spec in enumerate(specs)]
    return Dispatcher(slots, pool_limits(settings), observer)


def worker_spec(
    settings: Settings, threads: int, engine: EngineFactory | None = None, device: str = "cpu"
) -> Spec:
    """What a slot of so many threads, on a device, needs to open."""
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


def pool_limits(settings: Settings) -> Limits:
    """The pool's numbers."""
    return Limits(
        queue_limit=settings.queue_limit,
        hang_timeout_s=settings.hang_timeout_s,
        hang_grace_s=settings.hang_grace_s,
        start_timeout_s=settings.start_timeout_s,
        restart_backoff_s=settings.restart_backoff_s,
        restart_backoff_limit_s=settings.restart_backoff_limit_s,
        crash_limit=settings.crash_limit,
        slot_memory_bytes=settings.slot_memory_mb * 2**20,
        max_batch=settings.max_batch,
    )
