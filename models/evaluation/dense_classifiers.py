"""What classification is compared with: dense networks on the whole crop or a reduced one, also in OpenVINO INT8."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.engine import Pixels
from pixeltier.models.evaluation.engines import export, first_output, openvino_run, prepare_int8
from pixeltier.models.networks.classification import Classification, base_input, refinement_input
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm
from pixeltier.models.training.start import read_tensors

VIEWS = (224, 192, 160, 128)
BASE, RESNET18 = "EfficientNet-Lite0", "ResNet-18"


@dataclass(frozen=True, slots=True)
class DenseClassifier:
    """A dense network on the crop reduced to `view` pixels a side, with the MACs that it takes for a photo.

    `answer` maps one photo, float32 [1, 3, view, view] RGB in [0, 1], to logits [1, classes].
    """

    name: str
    view: int
    macs: int
    answer: Callable[[Tensor], Tensor]

    def __call__(self, image: Pixels) -> npt.NDArray[np.float32]:
        """Probabilities, float32 [classes], of a crop uint8 [H, W, 3]."""
        probabilities: npt.NDArray[np.float32] = self.answer(reduced(image, self.view)).softmax(1)[0].numpy()
        return probabilities


def reduced(image: Pixels, view: int) -> Tensor:
    """A crop uint8 [H, W, 3] as float32 [1, 3, view, view] in [0, 1], antialiased."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    return (
        x if x.shape[2:] == (view, view) else F.interpolate(x, (view, view), mode="bilinear", antialias=True)
    )


def dense_classifiers(
    model: Classification, resnet18: Path | None, int8_photos: Sequence[Pixels], threads: int
) -> Iterator[DenseClassifier]:
    """Rivals of a classifier: its base at each view and, with weights for it, a plain ResNet-18.

    OpenVINO computes them where it is installed, else torch.

    Args:
        resnet18: torchvision's or timm's weights, of as many classes.
        int8_photos: crops that NNCF quantises with; none of those that are evaluated. Empty: no INT8.

    Raises:
        FileNotFoundError, ValueError: the weights are missing, or those of another network.
        ImportError: INT8 needs packages that are not installed.
    """
    if int8_photos and not (_installed("openvino") and _installed("nncf")):
        raise ImportError("--int8-photos needs OpenVINO and NNCF: pip install 'pixeltier[bench]'")
    networks: list[tuple[str, nn.Module, Callable[[int], int]]] = [
        (BASE, _Base(model.base), lambda view: model.base.shape.macs(view, view))
    ]
    if resnet18 is not None:
        classes = model.shape.classes
        plain = _plain_resnet18(resnet18, classes)
        networks.append((RESNET18, plain, lambda view: counting.resnet18_dense(view, view, classes)))
    for name, network, macs in networks:
        for view in VIEWS:
            example = torch.zeros(1, 3, view, view)
            yield DenseClassifier(f"{name} {view}", view, macs(view), _float(network, example, threads))
            if int8_photos:
                photos = [reduced(photo, view) for photo in int8_photos]
                run = prepare_int8(network, photos, threads)
                yield DenseClassifier(f"{name} {view} INT8", view, macs(view), first_output(run))


class _Base(nn.Module):
    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(base_input(x))
        return logits


class _ResNet18(nn.Module):
    def __init__(self, network: ResNet18) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(refinement_input(x))
        return logits


def _plain_resnet18(path: Path, classes: int) -> _ResNet18:
    state = read_tensors(path)
    if "bn1.weight" in state:
        state = fold_batch_norm(state)
    network = ResNet18(ResNet18Shape(classes, 0))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is not a ResNet-18 of {classes} classes: {error}") from error
    return _ResNet18(network)


def _float(network: nn.Module, example: Tensor, threads: int) -> Callable[[Tensor], Tensor]:
    network = network.eval().requires_grad_(False)
    if _installed("openvino"):
        return first_output(openvino_run(export(network, example), torch.float32, threads))

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(x)
            return logits

    return run


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
