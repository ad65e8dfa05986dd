"""docs/metrics.md against the registry: every metric has its section, with its type and labels, and no other has."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from tests.integration.fakes import fake_app, running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()

SECTION = re.compile(
    r"^### ((?:`\w+`(?:, )?)+)\n\n(\w+)(?: by ([^\n]+))?\n\n(.+?)(?=^##|\Z)", re.MULTILINE | re.DOTALL
)


def _documented() -> dict[str, tuple[str, frozenset[str]]]:
    found = {}
    for heading, kind, labels, _ in SECTION.findall(PAGE):
        for name in re.findall(r"`(\w+)`", heading):
            assert name not in found, f"duplicate {name}"
            found[name] = (kind, frozenset(re.findall(r"`(\w+)`", labels)))
    return found


async def _registered() -> dict[str, tuple[str, frozenset[str]]]:
    app = fake_app()
    async with running(app):
        families = list(app.state.context.metrics.registry.collect())
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        kind = "process" if name.startswith("process_") else family.type
        found[name] = (kind, frozenset(_labels(family)))
    return found


def _labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


async def test_page_and_registry_are_in_step() -> None:
    assert _documented() == await _registered()


def test_every_section_has_a_query_of_its_metrics() -> None:
    sections = SECTION.findall(PAGE)
    assert len(sections) > 25
    for heading, _, _, text in sections:
        queries = re.findall(r"^    (.+)$", text, re.MULTILINE)
        assert queries, heading
        assert any(name in query for name in re.findall(r"`(\w+)`", heading) for query in queries), heading


async def test_base_units_and_no_ratio_gauges() -> None:
    for name, (kind, _) in (await _registered()).items():
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", name), name
        assert kind != "gauge" or not name.endswith(("_ratio", "_share")), name
        assert (kind == "counter") == name.endswith("_total") or kind == "process", name


@pytest.mark.parametrize("folder", ["prometheus/rules", "grafana/dashboards"])
async def test_rules_and_dashboards_use_metrics_that_exist(folder: str) -> None:
    known = set(await _registered())
    known |= {f"{name}{part}" for name in known for part in ("_bucket", "_sum", "_count")} | {"up"}
    for path in (ROOT / "deploy" / folder).iterdir():
        text = path.read_text()
        if path.suffix == ".json":
            text = "\n".join(
                target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", ())
            )
        # A recorded name has a colon on either side of the metric it is made from.
        used = set(re.findall(r"(?<![:\w])(?:pixeltier|http|process)_\w+(?![:\w])", text))
        assert used, path
        assert not used - known, path
