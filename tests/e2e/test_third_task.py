"""What CONTRIBUTING says of adding a task is true: these changes to a copy of the tree, and it is served everywhere."""

import base64
import json
import os
import shutil
from pathlib import Path

import httpx
import pytest
from PIL import Image

from pixeltier import native
from tests.e2e.conftest import serve
from tests.images import encoded

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parent / "third_task"

NEW_FILES = {
    "service/task_specs/mean_colour.py": EXAMPLE / "spec.py",
    "service/worker/mean_colour.py": EXAMPLE / "runner.py",
}

CHANGED_LINES = {
    "service/tasks.py": [('    SUPER_RESOLVE = "super-resolve"', '    MEAN_COLOUR = "mean-colour"')],
    "service/task_specs/registry.py": [
        (
            "from pixeltier.service.task_specs.classify import ClassifySpec",
            "from pixeltier.service.task_specs.mean_colour import MeanColourSpec",
        ),
        ("    {spec.task: spec for spec in (ClassifySpec(), SuperResolveSpec()", ", MeanColourSpec()"),
    ],
    "service/worker/runners.py": [
        (
            "from pixeltier.service.worker.classify import ClassifyRunner",
            "from pixeltier.service.worker.mean_colour import MeanColourRunner",
        ),
        (
            "    {runner.task: runner for runner in (ClassifyRunner(), SuperResolveRunner()",
            ", MeanColourRunner()",
        ),
    ],
    "models/cards.py": [
        ('Task = Literal["classify", "super-resolve"', ', "mean-colour"'),
        ('{"classify": "resnet18", "super-resolve": "srresnet_x4"', ', "mean-colour": "mean"'),
    ],
}
"""By file: a line's beginning as it stands, and what is added: a line below it, or more to it from a comma on."""


def changed(text: str, beginning: str, added: str) -> str:
    assert text.count(beginning) == 1, beginning
    return text.replace(beginning, beginning + (added if added.startswith(",") else f"\n{added}"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    package = tmp_path / "tree" / "pixeltier"
    for folder in ("service", "models", "native"):
        shutil.copytree(
            ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__", "*.cpp", "*.cu")
        )
    for module in (ROOT / "distribution" / "pixeltier").glob("*.py"):
        shutil.copy(module, package)
    for built in (Path(native._C.__file__), Path(native._C.__file__).with_name("_build_info.py")):
        shutil.copy(built, package / "native")
    for path, source in NEW_FILES.items():
        shutil.copy(source, package / path)
    for path, lines in CHANGED_LINES.items():
        text = (package / path).read_text()
        for beginning, added in lines:
            text = changed(text, beginning, added)
        (package / path).write_text(text)
    card = json.loads((package / "models/weights/resnet18.json").read_text())
    card |= {"task": "mean-colour", "name": "mean", "version": "1", "expectations": []}
    (package / "models/weights/mean.json").write_text(json.dumps(card))
    table = package / "service/tiers/default.toml"
    table.write_text(table.read_text().replace("super-resolve =", "mean-colour = 0.5, super-resolve ="))
    # An editable installation would be found before PYTHONPATH.
    (tmp_path / "tree" / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if 'Redirecting' not in type(one).__name__]\n"
    )
    return tmp_path / "tree"


def test_a_third_task_is_served_by_every_protocol(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tree) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    red = encoded(Image.new("RGB", (8, 8), (255, 0, 51)))
    with serve(tmp_path / "log") as served, httpx.Client(base_url=served.url) as client:
        answer = client.post("/v1/mean-colour?scale=100&tier=fast", content=red)
        assert answer.status_code == 200, answer.text
        assert answer.json()["colour"] == [100, 0, 20]
        assert answer.json()["macs"] == {"dense": 192, "executed": 96, "saved_ratio": 0.5}
        assert answer.json()["model"]["name"] == "mean"
        both = client.post("/v1/mean-colour", files=[("file", red), ("file", b"no image")])
        assert [one["status"] for one in both.json()["images"]] == [200, 422]
        assert client.post("/v1/mean-colour?scale=0", content=red).json()["type"] == "validation"
        assert client.post("/v1/classify?top_k=1", content=red).status_code == 200

        assert "mean-colour" in client.get("/v2/models").json()["models"]
        tensor = {
            "name": "image",
            "shape": [1],
            "datatype": "BYTES",
            "data": [base64.b64encode(red).decode()],
        }
        inferred = client.post("/v2/models/mean-colour/infer", json={"inputs": [tensor]})
        assert inferred.json()["outputs"][0]["data"] == [255, 0, 51]

        assert "/v1/mean-colour" in client.get("/openapi.json").json()["paths"]
        assert "mean-colour" in [one["task"] for one in client.get("/v1/models").json()["models"]]
        tiers = client.get("/v1/tiers").json()["tiers"]
        assert all(tier["models"]["mean-colour"]["threshold"] == 0.5 for tier in tiers)
        metrics = client.get("/metrics").text
        assert 'pixeltier_requests_total{model="mean-colour",outcome="ok",tier="fast"} 1.0' in metrics
