"""Rules and alerts: valid, each alert proved to fire and to stay silent, each with a section that says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.runbooks import PAGE, page

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here (Debian: apt-get install prometheus)"
)


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_configuration_and_its_rules_are_valid() -> None:
    _promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


@needs_promtool
@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should(path: Path) -> None:
    _promtool("test", "rules", str(path))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires, rests = set(), set()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check["exp_alerts"] else rests).add(check["alertname"])
    assert fires == set(_alerts())
    assert rests == set(_alerts())


def test_the_runbooks_that_prometheus_serves_are_those_of_the_guide() -> None:
    assert PAGE.read_text() == page(), "python deploy/runbooks.py writes it anew"
    links = re.findall(r'href="([^"]*)"', page())
    assert links
    assert [link for link in links if not link.startswith("#")] == []  # what it links to is on it
    assert {link.removeprefix("#") for link in links} <= set(re.findall(r'id="(\w+)"', page()))


def test_every_alert_says_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert headings == list(_alerts())  # an alert is found by its name, in the order of the rules
    served = re.findall(r'<h2 id="(\w+)">(\w+)</h2>', PAGE.read_text())
    assert served == [(name.lower(), name) for name in _alerts()]
    for name, alert in _alerts().items():
        # Prometheus fills in its own address; tests/e2e opens them.
        assert alert["annotations"]["runbook_url"] == (
            f"{{{{ $externalURL }}}}/user/{PAGE.name}#{name.lower()}"
        )
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert alert["annotations"]["summary"], name
        assert alert["annotations"]["description"], name
