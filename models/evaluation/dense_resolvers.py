"""x4 networks on every cell in a dense engine: what super-resolution is compared with, in quality and in time."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixeltier.models.evaluation.engines import Run, export, first_output, onnxruntime_run, openvino_run
from pixeltier.models.evaluation.metrics import Pixels
from pixeltier.models.evaluation.plain_networks import PlainESPAN
from pixeltier.models.networks.espan import ESPAN
from pixeltier.models.networks.srresnet import SCALE

KEPT_SHAPES = 8
ESPAN_NAME = "ESPAN"


class DenseResolver:
    """A x4 network (input NCHW RGB in [0, 1]), in OpenVINO where that is installed, else in ONNX Runtime.

    Args:
        onnx: the network for an input of height and width.
        macs: of an image of height and width.
    """

    def __init__(
        self,
        name: str,
        onnx: Callable[[int, int], bytes],
        macs: Callable[[int, int], int],
        threads: int,
    ) -> None:
        self.name = name
        self.macs = lru_cache(maxsize=None)(macs)
        self._onnx = onnx
        self._threads = threads
        self._prepared = lru_cache(maxsize=KEPT_SHAPES)(self._prepare)

    def _prepare(self, height: int, width: int) -> Callable[[Tensor], Tensor]:
        onnx = self._onnx(height, width)
        run: Run
        if importlib.util.find_spec("openvino") is not None:
            run = openvino_run(onnx, torch.float32, self._threads, (1, 3, height, width))
        else:
            run = onnxruntime_run(onnx, self._threads)
        return first_output(run)

    def __call__(self, lr: Pixels) -> Pixels:
        """Upscale uint8 [h, w, 3] to [4h, 4w, 3].

        Raises:
            ValueError: the network enlarges by another factor.
        """
        x = torch.from_numpy(lr.astype(np.float32).transpose(2, 0, 1)[None] / 255)
        y = self._prepared(*lr.shape[:2])(x)[0].permute(1, 2, 0)
        wanted = (SCALE * lr.shape[0], SCALE * lr.shape[1], 3)
        if tuple(y.shape) != wanted:
            raise ValueError(
                f"{self.name} turns {lr.shape} into {tuple(y.shape)}: a x4 network gives {wanted}"
            )
        image: Pixels = (y.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return image


def onnx_resolver(path: Path, threads: int) -> DenseResolver:
    """A network in an ONNX file, with its MACs counted from its graph.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the file is not an ONNX model of one image input.
    """
    from pixeltier.models.evaluation.onnx_macs import OnnxGraph

    graph = OnnxGraph(path)
    onnx = path.read_bytes()
    return DenseResolver(path.stem, lambda height, width: onnx, graph.macs, threads)  # noqa: ARG005


def base_resolver(base: ESPAN, macs_a_pixel: int, threads: int) -> DenseResolver:
    """The super-resolver's base alone."""
    network = PlainESPAN(base).eval().requires_grad_(False)
    return DenseResolver(
        ESPAN_NAME, partial(_exported, network), lambda height, width: height * width * macs_a_pixel, threads
    )


def _exported(network: PlainESPAN, height: int, width: int) -> bytes:
    return export(network, torch.zeros(1, 3, height, width))


def dense_resolvers(base: ESPAN | None, macs_a_pixel: int, files: Sequence[Path]) -> list[DenseResolver]:
    """The base, where one is given, and networks in files, on as many threads as torch has."""
    threads = torch.get_num_threads()
    alone = [] if base is None else [base_resolver(base, macs_a_pixel, threads)]
    return alone + [onnx_resolver(path, threads) for path in files]
