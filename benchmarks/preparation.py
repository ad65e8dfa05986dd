"""What deciding costs: importance networks and plans, as shares of the exact tier's time.

    python -m benchmarks.preparation --page docs/design.md

Medians on one image (ResNet-18: one batch), each part called on its own right after the part before it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.cases import PHOTO
from benchmarks.pages import write_between
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.host_memory import keep_freed_memory
from pixeltier.models.images import classify_input
from pixeltier.models.networks.masks import expand_from_windows
from pixeltier.models.networks.resnet18 import stage_scores, stage_sizes
from pixeltier.models.precision import Precision
from pixeltier.native import cpu_isa, ops
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.opening import packaged_thresholds

HEAD = (
    "| model | size | batch | dtype | exact ms | importance ms | plan ms, tier fast | share of exact |\n"
    "|---|---|---|---|---|---|---|---|"
)


def median_ms(call: Callable[[], Any], seconds: float) -> float:
    """Of as many calls as fit, at least five, after two that do not count."""
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 7 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        samples.append(1000 * (time.perf_counter() - start))
    return statistics.median(samples[2:])


def classification(batch: int, dtype: Precision, seconds: float) -> str:
    """ResNet-18 at 224: active lists and tables of all four stages."""
    with Image.open(PHOTO) as image:
        seen = [classify_input(image.convert("RGB").rotate(3 * index)) for index in range(batch)]
    classifier = Classifier.load(precision=dtype)
    network, calibrate = classifier._network, classifier._calibrate
    pixels = torch.from_numpy(np.stack(seen))
    answer = network.base(pixels)
    size = pixels.shape[1], pixels.shape[2]
    importance = calibrate(network.window_logits(answer, *size))
    thresholds = torch.full((batch,), packaged_thresholds(Task.CLASSIFY)["fast"])
    height, width = stage_sizes(*(-(-side // 4) for side in size))[0]

    def plan() -> None:
        scores = stage_scores(importance, network.shape.window, height, width)
        for stage, (rows, columns) in enumerate(stage_sizes(height, width)):
            active = ops.plan(scores[stage][:, 0].contiguous(), thresholds)
            if stage > 0:
                ops.dense_table(active, batch, 2 * rows, 2 * columns, 3, 2)
            ops.tile_table(active, batch, rows, columns, packed=True)
            ops.tile_table(active, batch, rows, columns, packed=False)

    exact = median_ms(lambda: classifier.classify(seen, [0.0] * batch), seconds)
    with torch.inference_mode():
        map_ms = median_ms(lambda: calibrate(network.window_logits(answer, *size)), seconds)
        plan_ms = median_ms(plan, seconds)
    return _line("resnet18", "224x224", batch, dtype, exact, map_ms, plan_ms)


def super_resolution(width: int, height: int, dtype: Precision, seconds: float) -> str:
    """SRResNet: the active list, its neighbours and the tables of the tail."""
    with Image.open(PHOTO) as image:
        pixels = np.array(image.convert("RGB").resize((width, height)))
    resolver = SuperResolver.load(precision=dtype)
    network, calibrate = resolver._network, resolver._calibrate
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)
    answer = network.base(x)
    windows = calibrate(network.window_logits(answer))
    threshold = torch.tensor([packaged_thresholds(Task.SUPER_RESOLVE)["fast"]])

    def plan() -> None:
        cells = expand_from_windows(windows, network.shape.window, height, width)[:, 0].contiguous()
        active = ops.plan(cells, threshold)
        table = ops.packed_table(active, 1, height, width, 3)
        ops.tile_table(active, 1, height, width, packed=True)
        ops.child_tile_table(table)

    exact = median_ms(lambda: resolver.upscale(pixels, 0.0), seconds)
    with torch.inference_mode():
        map_ms = median_ms(lambda: calibrate(network.window_logits(answer)), seconds)
        plan_ms = median_ms(plan, seconds)
    return _line("srresnet", f"{width}x{height}", 1, dtype, exact, map_ms, plan_ms)


def _line(model: str, size: str, batch: int, dtype: str, exact: float, importance: float, plan: float) -> str:
    share = (importance + plan) / exact
    return f"| {model} | {size} | {batch} | {dtype} | {exact:.2f} | {importance:.2f} | {plan:.2f} | {share:.1%} |"


def main() -> None:
    """Measure, print, and put the table on a page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--page", type=Path, help="put the table between this page's `preparation` marks")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    lines = [HEAD]
    dtypes: list[Precision] = ["fp32", "bf16"]
    for dtype in dtypes:
        lines += [classification(batch, dtype, options.seconds) for batch in (1, 8)]
        lines += [
            super_resolution(*size, dtype, options.seconds) for size in ((64, 64), (128, 128), (480, 270))
        ]
    print(f"{options.threads} threads, {cpu_isa()}\n\n" + "\n".join(lines))
    if options.page:
        write_between(options.page, "preparation", "\n".join(lines))


if __name__ == "__main__":
    main()
