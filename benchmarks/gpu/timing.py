"""Times by CUDA events, and calls as CUDA graphs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

Call = Callable[[], object]


class Clock:
    """CUDA events; on a machine without a GPU (a rehearsal) the processor's clock."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats

    def ms(self, call: Call) -> float:
        """The median time of a call, in milliseconds."""
        for _ in range(min(3, self.repeats)):
            call()
        return statistics.median(self._one(call) for _ in range(self.repeats))

    def _one(self, call: Call) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    def kernel_ms(self, call: Call, launches: int = 20) -> float:
        """The time of one of many launches, without what the host takes to launch them."""
        if self.device.type != "cuda":
            return self.ms(call)
        return self.ms(captured(lambda: [call() for _ in range(launches)])) / launches


def captured(call: Call) -> Call:
    """A call as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay
