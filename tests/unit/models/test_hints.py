"""Hints: a refinement that starts as a copy of a teacher's computation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor

from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape
from pixeltier.models.training import hint_phase
from pixeltier.models.training.hint_phase import follow_hints
from pixeltier.models.training.hints import Hints, HintTeacher
from pixeltier.models.training.loop import load_checkpoint
from pixeltier.models.training.photos import PatchSampler, Photo, shrink
from pixeltier.models.training.super_resolve_config import SuperResolveConfig

SHAPE = SuperResolutionShape(base_channels=6, base_blocks=1, channels=16, blocks=4)
HINTS = ["after1", "after2"]


def test_preparing_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SuperResolutionNetwork(SHAPE)
    lr = torch.rand(4, 3, 12, 12)
    before = {name: values.clone() for name, values in model.base.state_dict().items()}
    Hints(model, HintTeacher(teacher(tmp_path), HINTS, 1), lr).prepare(model, lr)
    assert all(torch.equal(values, before[name]) for name, values in model.base.state_dict().items())


def test_the_tail_is_solved_where_a_linear_one_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SuperResolutionNetwork(SHAPE)
    lr = torch.rand(16, 3, 12, 12)
    weight = 0.1 * torch.randn(48, SHAPE.base_channels, 3, 3)

    class Linear(HintTeacher):
        """Its image is the base's plus a convolution of the base's features: the entry tells all."""

        def __call__(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
            context, image = model.base(lr)
            return super().__call__(lr)[0], image + F.pixel_shuffle(F.conv2d(context, weight, padding=1), 4)

    hints = Hints(model, Linear(teacher(tmp_path), HINTS, 1), lr)
    hints.prepare(model, lr)
    hints.fit_tail(model, lr)
    context = model.base.features(lr)
    wanted = F.pixel_shuffle(F.conv2d(context, weight, padding=1), 4)
    missed = (model.refinement(lr, context) - wanted).square().mean() / wanted.square().mean()
    assert missed < 0.02


@pytest.mark.parametrize("forced_share", [0.0, 1.0], ids=["chained", "forced"])
def test_the_body_learns_what_the_teacher_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced_share: float
) -> None:
    monkeypatch.setattr(hint_phase, "FORCED_SHARE", forced_share)
    torch.manual_seed(0)
    model = SuperResolutionNetwork(SHAPE)
    lr = PatchSampler(photos(), 12, settings(tmp_path, 1).random_seed).batch(hint_phase.FITTED_PATCHES)[0]
    source = HintTeacher(teacher(tmp_path), HINTS, 1)
    fresh = SuperResolutionNetwork(SHAPE)
    hints = Hints(fresh, source, lr)
    hints.prepare(fresh, lr)
    start = hints.missed(fresh, lr, chained=True)
    follow_hints(model, settings(tmp_path, 60), photos(), torch.device("cpu"))
    assert (hints.missed(model, lr, chained=True) < 0.6 * start).all()


def test_an_interrupted_phase_goes_on(tmp_path: Path) -> None:
    model = SuperResolutionNetwork(SHAPE)
    follow_hints(model, settings(tmp_path, 2), photos(), torch.device("cpu"))
    follow_hints(model, settings(tmp_path, 5), photos(), torch.device("cpu"))
    state = load_checkpoint(tmp_path / "run" / "hints.pt")
    assert state is not None
    assert state["step"] == 5


def test_a_phase_that_was_cut_off_ends_bit_for_bit_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    start = SuperResolutionNetwork(SHAPE).state_dict()
    saved = hint_phase.save

    class CutError(Exception):
        pass

    def cut(*arguments: Any) -> None:
        saved(*arguments)
        if arguments[-1] == 2:
            raise CutError

    ends = []
    for name in ("whole", "cut"):
        config = replace(settings(tmp_path, 4), out=str(tmp_path / name), checkpoint_every=2)
        model = SuperResolutionNetwork(SHAPE)
        model.load_state_dict(start)
        torch.manual_seed(1)
        if name == "cut":
            monkeypatch.setattr(hint_phase, "save", cut)
            with pytest.raises(CutError):
                follow_hints(model, config, photos(), torch.device("cpu"))
            monkeypatch.setattr(hint_phase, "save", saved)
            model.load_state_dict(start)
            torch.manual_seed(1)
        follow_hints(model, config, photos(), torch.device("cpu"))
        state = load_checkpoint(tmp_path / name / "hints.pt")
        assert state is not None
        ends.append(state["model"])
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []


def test_hints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = teacher(tmp_path)
    with pytest.raises(ValueError, match="computes no elsewhere"):
        HintTeacher(path, ["after1", "elsewhere"], 1)
    with pytest.raises(ValueError, match="3 hints"):
        Hints(SuperResolutionNetwork(SHAPE), HintTeacher(path, ["before", *HINTS], 1), torch.rand(1, 3, 8, 8))
    wide = SuperResolutionShape(base_channels=6, base_blocks=1, channels=32, blocks=4)
    with pytest.raises(ValueError, match="32 channels"):
        Hints(SuperResolutionNetwork(wide), HintTeacher(path, HINTS, 1), torch.rand(1, 3, 8, 8))


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
