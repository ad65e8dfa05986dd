"""A tier table of fixed thresholds: the packaged one moves with the weights."""

from pathlib import Path

TIERS = """\
default = "balanced"

[[tiers]]
name = "exact"
description = "Every pixel computed: the dense network's answer."
degradable = false
thresholds = { classify = 0.0, super-resolve = 0.0 }

[[tiers]]
name = "high"
description = "Hard to tell from exact."
floor = "balanced"
thresholds = { classify = 0.33, super-resolve = 0.5 }

[[tiers]]
name = "balanced"
description = "The default: a good part of the work saved, quality close to exact."
floor = "fastest"
thresholds = { classify = 0.45, super-resolve = 0.7 }

[[tiers]]
name = "fast"
description = "Most of the work saved, a small drop in quality."
floor = "fastest"
thresholds = { classify = 0.55, super-resolve = 0.85 }

[[tiers]]
name = "fastest"
description = "Only what matters most is computed."
thresholds = { classify = 0.65, super-resolve = 0.95 }
"""


def tiers_file(directory: Path) -> Path:
    """The table as a file."""
    path = directory / "tiers.toml"
    if not path.exists():
        path.write_text(TIERS)
    return path
