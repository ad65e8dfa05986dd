"""The pool's numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The pool's numbers; see the settings of the same names. Without start_attempts there is no end to trying."""

    queue_limit: int = 64
    hang_timeout_s: float = 660.0
    hang_grace_s: float = 10.0
    start_timeout_s: float = 180.0
    start_attempts: int | None = None
    restart_backoff_s: float = 0.2
    restart_backoff_limit_s: float = 30.0
    crash_limit: int = 5
    slot_memory_bytes: int = 0
    max_batch: int = 1
