"""What Helm makes of the chart: the same engine as the `helm` program, from PyPI (helm-python-sdk)."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import Resource

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "pixeltier"

needs_helm = pytest.mark.skipif(
    importlib.util.find_spec("helm_python") is None,
    reason="Helm's library is missing: pip install '.[dev]' (x86-64 alone: there is no wheel for others)",
)


class RefusedError(Exception):
    """Helm does not take these values; the message is its own."""


def _ask(action: str, values: dict[str, Any], chart: Path, **more: str) -> dict[str, Any]:
    question = {"action": action, "values": values, "chart": str(chart), **more}
    answered = subprocess.run(
        [sys.executable, "-m", "tests.deploy.render_chart"],
        input=json.dumps(question),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answered.returncode == 0, answered.stderr
    answer: dict[str, Any] = json.loads(answered.stdout)
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    return answer


def example(name: str) -> dict[str, Any]:
    """The values of deploy/helm/pixeltier/examples."""
    values: dict[str, Any] = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return values


def lint(values: dict[str, Any]) -> list[str]:
    """Warnings and errors of `helm lint --strict`."""
    said: list[str] = _ask("lint", values, CHART)["lint"]
    return said


def package(folder: Path) -> Path:
    """The archive that `helm package` writes into the folder."""
    return Path(_ask("package", {}, CHART, folder=str(folder))["archive"])


def notes_and_resources(
    values: dict[str, Any], name: str = "demo", namespace: str = "images", chart: Path = CHART
) -> tuple[str, list[Resource]]:
    """What `helm install` prints at the end, and what it sends; RefusedError for values it does not take."""
    files = _ask("template", values, chart, name=name, namespace=namespace)["files"]
    notes = files.pop("pixeltier/templates/NOTES.txt")
    documents = [document for text in files.values() for document in yaml.safe_load_all(text)]
    return notes, [document for document in documents if document]


def template(values: dict[str, Any], name: str = "demo", namespace: str = "images") -> list[Resource]:
    """The resources alone."""
    return notes_and_resources(values, name, namespace)[1]
