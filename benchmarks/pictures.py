"""The README's pictures: input, importance map and results of both models.

python -m benchmarks.pictures docs/samples/astronaut.jpg docs/images
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pixeltier.models.cards import load_labels
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.images import classify_input
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.opening import packaged_thresholds

PANEL = 448
CAPTION = 44
GAP = 8
INK, PAPER = (25, 28, 33), (255, 255, 255)
COLD, WARM = np.array([18, 24, 58]), np.array([255, 196, 61])

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Draw `super_resolve.png` and `classify.png`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--enlarge", type=Path, required=True, help="photo for super_resolve.png")
    parser.add_argument("--classify", type=Path, required=True, help="photo for classify.png")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    super_resolve_picture(_read(options.enlarge)).save(options.out / "super_resolve.png", optimize=True)
    classify_picture(_read(options.classify)).save(options.out / "classify.png", optimize=True)


def super_resolve_picture(photo: Image.Image) -> Image.Image:
    """A small photo, what the network finds important in it, and the result of two tiers."""
    side = min(photo.size)
    small = np.asarray(_square(photo, side // 4))
    resolver = SuperResolver.load()
    thresholds = _thresholds(Task.SUPER_RESOLVE)
    runs = {tier: resolver.upscale(small, thresholds[tier]) for tier in ("exact", "fast")}
    fast = runs["fast"]
    panels = [(_panel(small, Image.Resampling.NEAREST), f"input, {side // 4} x {side // 4} pixels")]
    active = fast.importance >= fast.threshold
    map_view = _heat(np.where(active, fast.importance, 0.35 * fast.importance), small)
    panels.append((map_view, f"importance; bright: computed at fast ({fast.active_share:.0%})"))
    for tier, run in runs.items():
        panels.append(
            (_panel(run.image, Image.Resampling.LANCZOS), f"{tier}: {run.macs_saved:.1%} of the MACs saved")
        )
    return _sheet(panels)


def classify_picture(photo: Image.Image) -> Image.Image:
    """What the classifier sees, what it finds important, and its answer at two tiers."""
    seen = classify_input(photo)
    classifier = Classifier.load()
    thresholds = _thresholds(Task.CLASSIFY)
    labels = load_labels()
    panels = [(_panel(seen, Image.Resampling.BICUBIC), "input, 224 x 224 pixels")]
    for tier in ("exact", "balanced", "fast"):
        (run,) = classifier.classify([seen], [thresholds[tier]])
        best = int(run.probabilities.argmax())
        active = run.importance >= run.threshold
        view = _heat(np.where(active, run.importance, 0.2 * run.importance), seen)
        name = labels[best].replace("_", " ")
        panels.append((view, f"{tier}: {name} {run.probabilities[best]:.0%}, {run.macs_saved:.0%} saved"))
    return _sheet(panels)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _thresholds(task: Task) -> dict[str, float]:
    return packaged_thresholds(task)


def _square(photo: Image.Image, side: int) -> Image.Image:
    edge = min(photo.size)
    left, top = (photo.width - edge) // 2, (photo.height - edge) // 2
    return photo.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))


def _panel(pixels: Pixels, resampling: Image.Resampling) -> Image.Image:
    return Image.fromarray(pixels).resize((PANEL, PANEL), resampling)


def _heat(importance: npt.NDArray[np.floating], behind: Pixels) -> Image.Image:
    """Importance as warm light over a dark grey copy of the image."""
    share = importance[:, :, None]
    colour = Image.fromarray((COLD + share * (WARM - COLD)).astype(np.uint8)).resize(
        (PANEL, PANEL), Image.Resampling.NEAREST
    )
    grey = (
        Image.fromarray(behind).convert("L").convert("RGB").resize((PANEL, PANEL), Image.Resampling.BICUBIC)
    )
    return Image.blend(grey, colour, 0.7)


def _sheet(panels: list[tuple[Image.Image, str]]) -> Image.Image:
    font = ImageFont.load_default(20)
    width = len(panels) * PANEL + (len(panels) - 1) * GAP
    sheet = Image.new("RGB", (width, PANEL + CAPTION), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (panel, caption) in enumerate(panels):
        left = index * (PANEL + GAP)
        sheet.paste(panel, (left, 0))
        draw.text((left + 4, PANEL + 10), caption, INK, font)
    return sheet


if __name__ == "__main__":
    main()
