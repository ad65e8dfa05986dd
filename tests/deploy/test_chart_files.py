"""The chart's own files: links where a copy would be, and the settings and versions of the package. Wants no Helm."""

import json

import jsonschema
import pytest
import yaml

from deploy.helm.settings import CHARTS_OWN, SCHEMA, schema
from pixeltier.service import __version__
from pixeltier.service.configuration.settings import Settings
from tests.deploy.charts import CHART, ROOT, example


def test_nothing_of_the_deployment_is_written_twice() -> None:
    links = {path.name: path.resolve() for path in (CHART / "files").iterdir()}
    assert all((CHART / "files" / name).is_symlink() for name in links)
    assert links == {
        "base": ROOT / "deploy" / "kubernetes" / "base",
        "components": ROOT / "deploy" / "kubernetes" / "components",
        "overlays": ROOT / "deploy" / "kubernetes" / "overlays",
        "rules": ROOT / "deploy" / "prometheus" / "rules",
        "dashboards": ROOT / "deploy" / "grafana" / "dashboards",
    }


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_settings_are_the_services_own() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "python deploy/helm/settings.py writes it anew"
    assert Settings.model_fields.keys() >= CHARTS_OWN


@pytest.mark.parametrize("name", sorted(path.stem for path in (CHART / "examples").glob("*.yaml")))
def test_examples_and_defaults_follow_the_schema(name: str) -> None:
    checked = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(checked)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(defaults, checked)
    jsonschema.validate(example(name), checked)
    assert example(name).keys() <= defaults.keys() == checked["properties"].keys() - {"global"}
