"""Times of several runs that take turns, so that whatever slows the machine down slows them all."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

Timed = Callable[[], Any]

PAUSE = 0.05
"""Seconds before each run: an engine's threads spin for a while after theirs, and would slow down the next one."""

WAKE_BELOW = 0.2
"""Seconds: a run shorter than this has one before it that does not count. To wake threads that sleep takes up to 10 ms
where the system puts two of them on one processor first, which says nothing of an engine."""


class Sample(NamedTuple):
    """Milliseconds of one run: by the clock, and of this process on all processors, which others disturb less."""

    ms: float
    cpu_ms: float


def interleaved(runs: Sequence[Timed], seconds: float, label: str) -> list[list[Sample]]:
    """The times of each run; rounds in which every run has its turn, until the time is up (5 at least)."""
    short = []
    for run in runs:
        run()
        start = time.perf_counter()
        run()
        short.append(time.perf_counter() - start < WAKE_BELOW)
    times: list[list[Sample]] = [[] for _ in runs]
    gc.collect()
    end = time.perf_counter() + seconds
    bar = tqdm(desc=label, unit="round")
    while len(times[0]) < 5 or time.perf_counter() < end:
        for run, samples, wakes in zip(runs, times, short, strict=True):
            time.sleep(PAUSE)
            if wakes:
                run()
            start, used = time.perf_counter(), time.process_time()
            run()
            ended, at_end = time.perf_counter(), time.process_time()
            samples.append(Sample(1000 * (ended - start), 1000 * (at_end - used)))
        bar.update()
    bar.close()
    return times
