"""What the distribution's metadata takes from the build: its licence expression, and the torch it is bound to.

scikit-build-core calls this (`[[tool.dynamic-metadata]]` in pyproject.toml).
"""

import importlib.metadata
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

ROOT = Path(__file__).parents[1]

CODE = "Apache-2.0"

PHOTOS = {"cat.jpg": "CC0-1.0", "astronaut.png": "CC-PDM-1.0"}
"""The page's sample photos (service/console/samples) and their licences."""

_build_state = ""


def build_state(state: str) -> None:
    """Remember what is being built: sdist, wheel, editable, or the metadata of one of the latter."""
    global _build_state  # noqa: PLW0603 - the interface is module-level functions
    _build_state = state


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `[project]` that this module fills; dependencies are added to those named there."""
    del settings, project
    return {"license": licence_expression(), "dependencies": _bound_to_torch(_build_state)}


def dynamic_wheel(settings: Mapping[str, Any]) -> dict[str, bool]:
    """Fields that differ between a source distribution and a wheel built from it (core metadata: Dynamic)."""
    del settings
    return {"dependencies": True, "license": False}


def weights_licences(weights: Path = ROOT / "models" / "weights") -> dict[str, str]:
    """The licence of each file of weights, by its path below them, from the card beside it.

    Raises:
        ValueError: a card's licence is not an SPDX expression.
    """
    found = {}
    for card in sorted(weights.rglob("*.json")):
        values = json.loads(card.read_bytes())
        found[card.relative_to(weights).with_suffix(".safetensors").as_posix()] = _canonical(
            str(values["licence"]), card
        )
        if values.get("base"):
            found[(card.parent / f"{values['base']}.safetensors").relative_to(weights).as_posix()] = (
                _canonical(str(values["base_licence"]), card)
            )
    return found


def _canonical(licence: str, card: Path) -> str:
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression as error:
        raise ValueError(
            f"{card}: licence is {licence!r}, not an SPDX expression; write LicenseRef-NAME where the SPDX list "
            "has none, and the explanation into `origin`"
        ) from error


def licence_expression() -> str:
    """The SPDX expression for everything in the distribution: code, photos, weights (PEP 639)."""
    parts = {CODE}
    for expression in (*PHOTOS.values(), *weights_licences().values()):
        parts |= {f"({expression})"} if " OR " in expression else set(expression.split(" AND "))
    return " AND ".join([CODE, *sorted(parts - {CODE})])


def _bound_to_torch(state: str) -> list[str]:
    """A compiled extension is good for the minor version of torch it was built with; source is for any."""
    if state == "sdist":
        return []
    version = importlib.metadata.version("torch")
    found = re.match(r"\d+\.\d+", version)
    if found is None:
        raise RuntimeError(
            f"the installed torch has the version {version!r}: no minor version can be read from it"
        )
    return [f"torch=={found[0]}.*"]
