"""What the networks on CUDA share: copies to the device, its memory, captured graphs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_RUNS = 3
"""Runs before a capture: libraries choose their algorithms and caches fill."""


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A copy through pinned memory that the host does not wait for; nothing where it is there already."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device=device, dtype=dtype, non_blocking=True)


def expand_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """`pixeltier.models.networks.masks.expand_from_windows` of a map [N, 1, h, w], as [N, height, width]."""
    count, _, rows, columns = windows.shape
    cells = windows.view(count, rows, 1, columns, 1).expand(count, rows, window, columns, window)
    return cells.reshape(count, rows * window, columns * window)[:, :height, :width].contiguous()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a GPU has and what torch may take of it, in bytes."""

    total: int
    limit: int


def bound_memory(device: torch.device, fraction: float) -> Memory:
    """Let torch's allocator take no more than a share of a GPU: beyond it a job fails, and nobody else does."""
    torch.cuda.set_per_process_memory_fraction(fraction, device)
    total = torch.cuda.get_device_properties(device).total_memory
    return Memory(total, int(fraction * total))


class Graph:
    """A function on the device, captured once for the shapes of its inputs and replayed in one launch.

    The function must not wait for the device, nor keep what it allocates. Results are overwritten by the next
    replay.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], *examples: Tensor) -> None:
        self._inputs = [example.clone() for example in examples]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_RUNS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Replay with other inputs of the same shapes; none keeps the ones there are."""
        for static, given in zip(self._inputs, inputs, strict=False):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs
