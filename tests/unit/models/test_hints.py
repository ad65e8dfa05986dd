"""Hints: a heavy path that starts as a copy of a teacher's computation."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor

from models.networks.srresnet import SRResNet, SRResNetShape
from models.training import hint_phase
from models.training.dense import heavy_path_dense
from models.training.hint_phase import follow_hints
from models.training.hints import Hints, HintTeacher
from models.training.loop import load_checkpoint
from models.training.photos import PatchSampler, Photo, shrink
from models.training.super_resolve_config import SuperResolveConfig

SHAPE = SRResNetShape(channels=16, blocks=4, base_channels=6, base_layers=1)
HINTS = ["after1", "after2"]


def test_dense_step_equals_the_network() -> None:
    torch.manual_seed(0)
    model = SRResNet(SHAPE).double()
    x = torch.rand(2, 3, 9, 14, dtype=torch.float64)
    for act in (model.up1_act, model.up2_act):
        torch.nn.init.uniform_(act.weight, -0.5, 1.5)

    def gradients(pixels: Tensor) -> tuple[Tensor, ...]:
        names = ("head", "fuse", "body", "mid", "up1", "up2", "tail")
        parameters = [p for n, p in model.named_parameters() if n.split(".")[0].split("_")[0] in names]
        return torch.autograd.grad(pixels.sin().sum(), parameters)

    features, context, _ = model.light_path(x)
    plain = model.heavy_path(features, context, None)
    expected = gradients(plain)
    features, context, _ = model.light_path(x)
    quick = heavy_path_dense(model, features, context)
    torch.testing.assert_close(quick, plain)
    torch.testing.assert_close(gradients(quick), expected)


def test_preparing_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SRResNet(SHAPE)
    lr = torch.rand(4, 3, 12, 12)
    before = model.light_path(lr)[2]
    Hints(model, HintTeacher(teacher(tmp_path), HINTS, 1), lr).prepare(model, lr)
    torch.testing.assert_close(model.light_path(lr)[2], before)


def test_the_tail_is_solved_where_a_linear_one_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SRResNet(SHAPE)
    lr = torch.rand(16, 3, 12, 12)
    weight = 0.1 * torch.randn(48, SHAPE.base_channels, 3, 3)

    class Linear(HintTeacher):
        """Its image is the base's plus a convolution of the base's features: the entry tells all."""

        def __call__(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
            _, context, image = model.light_path(lr)
            return super().__call__(lr)[0], image + F.pixel_shuffle(F.conv2d(context, weight, padding=1), 4)

    hints = Hints(model, Linear(teacher(tmp_path), HINTS, 1), lr)
    hints.prepare(model, lr)
    hints.fit_tail(model, lr)
    features, context, _ = model.light_path(lr)
    wanted = F.pixel_shuffle(F.conv2d(context, weight, padding=1), 4)
    missed = (model.heavy_path(features, context, None) - wanted).square().mean() / wanted.square().mean()
    assert missed < 0.02


@pytest.mark.parametrize("forced_share", [0.0, 1.0], ids=["chained", "forced"])
def test_the_body_learns_what_the_teacher_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced_share: float
) -> None:
    monkeypatch.setattr(hint_phase, "FORCED_SHARE", forced_share)
    torch.manual_seed(0)
    model = SRResNet(SHAPE)
    lr = PatchSampler(photos(), 12, settings(tmp_path, 1).random_seed).batch(hint_phase.FITTED_PATCHES)[0]
    source = HintTeacher(teacher(tmp_path), HINTS, 1)
    fresh = SRResNet(SHAPE)
    hints = Hints(fresh, source, lr)
    hints.prepare(fresh, lr)
    start = hints.missed(fresh, lr, chained=True)
    follow_hints(model, settings(tmp_path, 60), photos(), torch.device("cpu"))
    assert (hints.missed(model, lr, chained=True) < 0.6 * start).all()


def test_an_interrupted_phase_goes_on(tmp_path: Path) -> None:
    model = SRResNet(SHAPE)
    follow_hints(model, settings(tmp_path, 2), photos(), torch.device("cpu"))
    follow_hints(model, settings(tmp_path, 5), photos(), torch.device("cpu"))
    state = load_checkpoint(tmp_path / "run" / "hints.pt")
    assert state is not None
    assert state["step"] == 5


def test_hints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = teacher(tmp_path)
    with pytest.raises(ValueError, match="computes no elsewhere"):
        HintTeacher(path, ["after1", "elsewhere"], 1)
    with pytest.raises(ValueError, match="3 hints"):
        Hints(SRResNet(SHAPE), HintTeacher(path, ["before", *HINTS], 1), torch.rand(1, 3, 8, 8))
    wide = SRResNetShape(channels=32, blocks=4, base_channels=6, base_layers=1)
    with pytest.raises(ValueError, match="32 channels"):
        Hints(SRResNet(wide), HintTeacher(path, HINTS, 1), torch.rand(1, 3, 8, 8))


def settings(folder: Path, steps: int) -> SuperResolveConfig:
    return SuperResolveConfig(
        photos=[],
        out=str(folder / "run"),
        teacher=str(teacher(folder)),
        hints=HINTS,
        hint_steps=steps,
        hint_patches=2,
        patch=12,
        dtype="float32",
    )


def photos() -> list[Photo]:
    hr = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    return [Photo(hr, shrink(hr), None)]


def teacher(folder: Path) -> Path:
    """A residual network of two blocks with 16 channels, in ONNX."""
    random = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(source: str, target: str, inputs: int, outputs: int) -> None:
        values = random.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, f"{target}.weight"))
        nodes.append(helper.make_node("Conv", [source, f"{target}.weight"], [target], pads=[1, 1, 1, 1]))

    conv("lr", "before", 3, 16)
    for index, source in enumerate(["before", "after1"], start=1):
        conv(source, f"inner{index}", 16, 16)
        nodes.append(helper.make_node("Relu", [f"inner{index}"], [f"active{index}"]))
        conv(f"active{index}", f"branch{index}", 16, 16)
        nodes.append(helper.make_node("Add", [source, f"branch{index}"], [f"after{index}"]))
    conv("after2", "pixels", 16, 48)
    nodes.append(helper.make_node("DepthToSpace", ["pixels"], ["sr"], blocksize=4, mode="CRD"))
    image = helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["n", 3, "h", "w"])
    output = helper.make_tensor_value_info("sr", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "teacher", [image], [output], weights)
    path = folder / "teacher.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path
