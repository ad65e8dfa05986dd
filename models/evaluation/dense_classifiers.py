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
from pixeltier.models.evaluation.engines import export, first_output, openvino_run, prepare_int8
from pixeltier.models.evaluation.plain_networks import PlainEfficientNetLite, PlainRefinement
from pixeltier.models.networks.classification import ClassificationNetwork
from pixeltier.models.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteShape, from_public
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape, fold_batch_norm
from pixeltier.models.results import Pixels
from pixeltier.models.training.start import read_tensors

VIEWS = (224, 192, 160, 128)
BASE, RESNET18 = "EfficientNet-Lite0", "ResNet-18"


@dataclass(frozen=True, slots=True)
class LiteSize:
    """An EfficientNet-Lite's scaling, and the side of the crop that it was trained on."""

    width: float
    depth: float
    view: int


LITE_SIZES = {
    "EfficientNet-Lite0": LiteSize(1.0, 1.0, 224),
    "EfficientNet-Lite1": LiteSize(1.0, 1.1, 240),
    "EfficientNet-Lite2": LiteSize(1.1, 1.2, 260),
    "EfficientNet-Lite3": LiteSize(1.2, 1.4, 280),
    "EfficientNet-Lite4": LiteSize(1.4, 1.8, 300),
}


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
    model: ClassificationNetwork,
    resnet18: Path | None,
    lites: Sequence[Path],
    int8_photos: Sequence[Pixels],
    threads: int,
) -> Iterator[DenseClassifier]:
    """Rivals of a classifier: its base at each view and, with weights for them, a plain ResNet-18 and larger bases.

    OpenVINO computes them where it is installed, else torch.

    Args:
        resnet18: torchvision's or timm's weights, of as many classes.
        lites: weights of EfficientNet-Lites of any size; each also sees the crop enlarged to its own view.
        int8_photos: crops that NNCF quantises with; none of those that are evaluated. Empty: no INT8.

    Raises:
        FileNotFoundError, ValueError: the weights are missing, or those of another network.
        ImportError: INT8 needs packages that are not installed.
    """
    if int8_photos and not (_installed("openvino") and _installed("nncf")):
        raise ImportError("--int8-photos needs OpenVINO and NNCF: pip install 'pixeltier[bench]'")
    classes = model.shape.classes
    rivals: list[tuple[str, nn.Module, Callable[[int], int], tuple[int, ...]]] = [
        (BASE, PlainEfficientNetLite(model.base), _lite_macs(model.base.shape), VIEWS)
    ]
    if resnet18 is not None:
        plain = _plain_resnet18(resnet18, classes)
        rivals.append((RESNET18, plain, lambda view: counting.resnet18_dense(view, view, classes), VIEWS))
    for path in lites:
        name, lite = read_lite(path, classes)
        views = tuple(dict.fromkeys((LITE_SIZES[name].view, *VIEWS)))
        rivals.append((name, PlainEfficientNetLite(lite), _lite_macs(lite.shape), views))
    for name, network, macs, views in rivals:
        for view in views:
            example = torch.zeros(1, 3, view, view)
            yield DenseClassifier(f"{name} {view}", view, macs(view), _float(network, example, threads))
            if int8_photos:
                photos = [reduced(photo, view) for photo in int8_photos]
                run = prepare_int8(network, photos, threads)
                yield DenseClassifier(f"{name} {view} INT8", view, macs(view), first_output(run))


def read_lite(path: Path, classes: int) -> tuple[str, EfficientNetLite]:
    """The EfficientNet-Lite, of whichever size, that a file in the public names holds.

    Raises:
        FileNotFoundError, ValueError: there is no file, or it is none of them.
    """
    state = read_tensors(path)
    for name, size in LITE_SIZES.items():
        shape = EfficientNetLiteShape(classes, size.width, size.depth)
        try:
            own = from_public(state, shape)
        except ValueError:
            continue
        network = EfficientNetLite(shape)
        network.load_state_dict(own)
        return name, network
    raise ValueError(f"{path} is not an EfficientNet-Lite0 to 4 of {classes} classes")


def _lite_macs(shape: EfficientNetLiteShape) -> Callable[[int], int]:
    return lambda view: shape.macs(view, view)


def _plain_resnet18(path: Path, classes: int) -> PlainRefinement:
    state = read_tensors(path)
    if "bn1.weight" in state:
        state = fold_batch_norm(state)
    network = ResNet18(ResNet18Shape(classes, 0))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is not a ResNet-18 of {classes} classes: {error}") from error
    return PlainRefinement(network)


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
