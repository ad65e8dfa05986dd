"""Both networks beside cuDNN and torch.compile."""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.report import Report
from benchmarks.gpu.timing import Clock

ROOT = Path(__file__).resolve().parents[2]
NOTHING = "0.0%"


def load(task: str) -> tuple[Any, list[float]]:
    """A network with the shipped weights, and its calibration; from the files alone."""
    from safetensors.torch import load_file

    from pixeltier.models.networks.classification import ClassificationNetwork, ClassificationShape
    from pixeltier.models.networks.super_resolution import SuperResolutionNetwork, SuperResolutionShape

    base, name = {
        "super_resolve": ("espan_x4", "srresnet_x4"),
        "classify": ("efficientnet_lite0", "resnet18"),
    }[task]
    weights = ROOT / "models" / "weights"
    card = json.loads((weights / f"{name}.json").read_text(encoding="utf-8"))
    shape = card["architecture"]
    model: nn.Module = (
        SuperResolutionNetwork(SuperResolutionShape(**shape))
        if task == "super_resolve"
        else ClassificationNetwork(ClassificationShape(**shape))
    )
    files = (load_file(weights / f"{part}.safetensors") for part in (base, name))
    model.load_state_dict({key: value.float() for file in files for key, value in file.items()})
    return model.eval().requires_grad_(False), card["calibration"]


def photos(count: int, height: int, width: int) -> Tensor:
    """float32 [count, 3, height, width] in [0, 1]: the sample photo from different corners, or noise without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    with Image.open(ROOT / "docs" / "samples" / "astronaut.jpg") as opened:
        photo = opened.convert("RGB").resize((width + 8 * count, height + 8 * count))
        data = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8)
    whole = data.view(height + 8 * count, width + 8 * count, 3).permute(2, 0, 1).float() / 255
    return torch.stack([whole[:, 8 * n : 8 * n + height, 8 * n : 8 * n + width] for n in range(count)])


def rival(network: nn.Module, x: Tensor, clock: Clock, *, compiled: bool) -> float:
    """The dense network in bf16, channels last, through cuDNN: eager or compiled. Milliseconds."""
    dense = copy.deepcopy(network).to(device=clock.device, dtype=torch.bfloat16)
    dense = dense.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = x.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    run: Callable[[Tensor], Tensor] = dense
    if compiled:
        run = torch.compile(dense, mode="reduce-overhead")
    with torch.inference_mode():
        return clock.ms(lambda: run(given))


def rivals(
    report: Report, network: nn.Module, x: Tensor, clock: Clock, *, compiled: bool
) -> dict[str, float]:
    """Both rivals; a compiler that fails is reported and left out."""
    times = {"cuDNN eager": rival(network, x, clock, compiled=False)}
    if compiled:
        try:
            times["torch.compile"] = rival(network, x, clock, compiled=True)
        except Exception as error:
            traceback.print_exc()
            report.say(f"torch.compile failed: {type(error).__name__}\n")
    return times


def replayed(
    clock: Clock, call: Callable[..., Sequence[Tensor]], *inputs: Tensor
) -> tuple[float, Sequence[Tensor]]:
    """Time of a call as a CUDA graph, and its results."""
    from pixeltier.models.inference.device import Graph

    if clock.device.type != "cuda":
        return clock.ms(lambda: call(*inputs)), call(*inputs)
    graph = Graph(call, *inputs)
    return clock.ms(graph), graph()


def share_for(saved: float, dense: float, always: float, cell: float) -> float:
    """Active cells for each cell of the image, so that this much is saved."""
    return max(0.0, min(1.0, ((1 - saved) * dense - always) / cell))


def measure_srresnet(
    report: Report, clock: Clock, batches: Sequence[int], scale: int, *, compiled: bool
) -> None:
    """SRResNet x4 at LR 480x270: exact and with at least 90 % saved, beside the dense network."""
    from benchmarks.rivals import PlainSRResNet
    from pixeltier.models import counting
    from pixeltier.models.calibration import Calibration
    from pixeltier.models.inference.backend import CudaBackend
    from pixeltier.models.inference.super_resolution import SparseSuperResolution

    model, knots = load("super_resolve")
    network = SparseSuperResolution(model, CudaBackend(torch.bfloat16, clock.device, isa="cuda"))
    calibrate = Calibration(knots, clock.device)
    height, width = max(12, 270 // scale), max(12, 480 // scale)

    def enlarge(x: Tensor, thresholds: Tensor) -> Sequence[Tensor]:
        result = network.enlarge(x, thresholds, calibrate)
        return result.image, result.counts, result.windows

    rows: list[list[object]] = []
    for batch in batches:
        x = photos(batch, height, width).to(clock.device)
        cells = batch * height * width
        times = rivals(
            report, PlainSRResNet(model.refinement), x, clock, compiled=compiled and batch == batches[0]
        )
        best = min(times.values())
        rows += [[batch, name, NOTHING, f"{ms:.3f}", f"{best / ms:.2f}", ""] for name, ms in times.items()]
        exact = torch.zeros(batch, device=clock.device)
        windows = enlarge(x, exact)[2].flatten(1).float()
        always = network.base_macs + network.importance_macs
        share = share_for(0.905, counting.srresnet_dense(), always, network.body_macs + network.tail_macs)
        sparse = windows.quantile(1 - share, dim=1)
        for name, thresholds, target in (("exact", exact, 1.0), ("sparse", sparse, 4.0)):
            ms, results = replayed(clock, enlarge, x, thresholds)
            saved = 1 - network.macs(cells, int(results[1].sum())) / (cells * counting.srresnet_dense())
            met = "met" if best / ms >= target else "MISSED"
            rows.append(
                [
                    batch,
                    f"pixeltier {name}",
                    f"{100 * saved:.1f}%",
                    f"{ms:.3f}",
                    f"{best / ms:.2f}",
                    f">= {target:g}: {met}",
                ]
            )
            if name == "exact":
                with torch.inference_mode():
                    eager = clock.ms(partial(enlarge, x, thresholds))
                rows.append(
                    [
                        batch,
                        "pixeltier exact, no graph",
                        f"{100 * saved:.1f}%",
                        f"{eager:.3f}",
                        f"{best / eager:.2f}",
                        "",
                    ]
                )
    report.say(
        f"LR {width}x{height}, bf16. Ours: float32 pixels to uint8 pixels with importance, plan and composition, one "
        "CUDA graph; rivals: the dense network from bf16 to bf16, channels last, cuDNN's own choice of algorithms.\n"
    )
    report.table(["batch", "engine", "MACs saved", "ms", "fastest rival / this", "target"], rows)


def measure_resnet(report: Report, clock: Clock, scale: int, *, compiled: bool) -> None:
    """ResNet-18 at 224, batch 64: exact and with half saved."""
    from benchmarks.rivals import PlainResNet18
    from pixeltier.models import counting
    from pixeltier.models.calibration import Calibration
    from pixeltier.models.inference.backend import CudaBackend
    from pixeltier.models.inference.classification import SparseClassification

    model, knots = load("classify")
    network = SparseClassification(model, CudaBackend(torch.bfloat16, clock.device, isa="cuda"))
    calibrate = Calibration(knots, clock.device)
    batch, size = max(1, 64 // scale), 224 if scale == 1 else 32
    shown = photos(batch, size, size).to(clock.device)
    x = (shown - 0.45) / 0.225
    pixels = (255 * shown).byte().permute(0, 2, 3, 1).contiguous()
    dense = batch * counting.resnet18_dense(size, size, model.shape.classes)

    def classify(images: Tensor, thresholds: Tensor) -> Sequence[Tensor]:
        result = network.classify(images, thresholds, calibrate)
        return result.logits, result.counts

    def saved_at(counts: Tensor) -> float:
        executed = batch * (network.base_macs(size, size) + network.image_macs(size, size))
        executed += sum(int(of_stage.sum()) * counting.resnet18_cell(n) for n, of_stage in enumerate(counts))
        return 1 - executed / dense

    low, high = 0.0, 1.0
    for _ in range(12 if scale == 1 else 1):  # the least threshold that saves half
        middle = (low + high) / 2
        saved = saved_at(classify(pixels, torch.full((batch,), middle, device=clock.device))[1])
        low, high = (middle, high) if saved < 0.5 else (low, middle)
    times = rivals(report, PlainResNet18(model.refinement), x, clock, compiled=compiled)
    eager, best = times["cuDNN eager"], min(times.values())
    rows: list[list[object]] = [
        [name, NOTHING, f"{ms:.3f}", f"{eager / ms:.2f}", f"{best / ms:.2f}", ""]
        for name, ms in times.items()
    ]
    for name, threshold, target in (("exact", 0.0, None), ("half saved", high, 1.4)):
        ms, results = replayed(clock, classify, pixels, torch.full((batch,), threshold, device=clock.device))
        saved = saved_at(results[1])
        met = "" if target is None else f">= {target:g}: {'met' if eager / ms >= target else 'MISSED'}"
        rows.append(
            [
                f"pixeltier {name}",
                f"{100 * saved:.1f}%",
                f"{ms:.3f}",
                f"{eager / ms:.2f}",
                f"{best / ms:.2f}",
                met,
            ]
        )
    report.say(
        f"{size}x{size}, batch {batch}, bf16; ours as one CUDA graph, importance and plans included.\n"
    )
    report.table(["engine", "MACs saved", "ms", "cuDNN eager / this", "fastest rival / this", "target"], rows)
