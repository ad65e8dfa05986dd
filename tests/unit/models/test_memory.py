"""Memory of super-resolution: below the dense network's, falling with the tier, and flat over many sizes.

Each case runs in a process of its own, whose peak is forgotten once the weights are there.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixeltier.models.cards import write_card
from pixeltier.models.checkpoints import save_weights
from tests.unit.models.networks import as_images, card_of, knots_of, super_resolution

pytestmark = pytest.mark.timeout(280)

PHOTO = Path(__file__).parents[3] / "docs/samples/astronaut.jpg"
PEAK = """
import json, sys
import numpy as np, torch
torch.set_num_threads(2)
from pixeltier.models.host_memory import keep_freed_memory
keep_freed_memory()  # as a worker does
from pathlib import Path
from pixeltier.models.checkpoints import load_super_resolution
from pixeltier.models.engine import SuperResolver
kind, photo, weights = sys.argv[1:]
model, card = load_super_resolution(Path(weights))
from PIL import Image
pixels = np.asarray(Image.open(photo).convert("RGB").resize((192, 192)))
def forget():  # proc(5): the peak starts anew from what is resident now
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
if kind == "dense":
    from pixeltier.models.inference.dense import frozen_copy
    network = frozen_copy(model, torch.float32)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    forget()
    before = peak()
    with torch.inference_mode():
        network(x.contiguous(memory_format=torch.channels_last))
else:
    resolver = SuperResolver(model, card, "fp32")
    resolver.upscale(pixels[:16, :16], 0.5)
    forget()
    before = peak()
    resolver.upscale(pixels, float(kind))
print(json.dumps({"mb": (peak() - before) / 1024}))
"""

SIZES = """
import json, os, sys
import numpy as np, torch
torch.set_num_threads(2)
from pixeltier.models.host_memory import keep_freed_memory
keep_freed_memory()
from pixeltier.models.engine import SuperResolver
from pathlib import Path
resolver = SuperResolver.load(Path(sys.argv[3]), precision=sys.argv[1])
random = np.random.default_rng(1)
page = os.sysconf("SC_PAGE_SIZE")
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * page / 2**20
seen = []
for number in range(int(sys.argv[2])):
    height, width = random.integers(1, 40, 2)
    resolver.upscale(random.integers(0, 256, (height, width, 3), dtype=np.uint8), random.random())
    seen.append(resident())
print(json.dumps(seen))
"""


def run(code: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=260
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A super-resolver of the shipped one's size, calibrated on the photo that it is measured on."""
    model = super_resolution()
    with Image.open(PHOTO) as image:
        pixels = np.asarray(image.convert("RGB").resize((192, 192)))
    with torch.inference_mode():
        logits = model.window_logits(model.base.features(as_images(pixels[None])))
    directory = tmp_path_factory.mktemp("whole")
    save_weights("super-resolve", model.state_dict(), directory)
    write_card(card_of(model, knots_of(logits)), directory)
    return directory


def test_peak_is_below_the_dense_networks_and_falls_with_the_tier(whole: Path) -> None:
    dense, exact, fast = (run(PEAK, kind, str(PHOTO), str(whole))["mb"] for kind in ("dense", "0.0", "0.95"))
    assert exact <= dense
    assert fast < 0.9 * exact


def test_nothing_grows_over_a_thousand_random_sizes(weights: Path) -> None:
    seen = run(SIZES, "auto", "1000", str(weights))
    assert max(seen[500:]) <= max(seen[:500]) + 16
