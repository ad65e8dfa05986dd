"""The stack as an operator starts it: every query of dashboards, rules and documentation finds data in it."""

import asyncio
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.monitoring import (
    DASHBOARDS,
    ROOT,
    SAMPLES,
    Load,
    Stack,
    ask,
    filled,
    panels,
    pictures,
    stack,
)
from benchmarks.processes import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus here (Debian: apt-get install prometheus)"
)

RULES = ROOT / "deploy" / "prometheus" / "rules"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack after half a minute of load, with all of it scraped and every rule evaluated."""
    with stack(tmp_path_factory.mktemp("stack")) as found:
        _until(found, 'count_over_time(up{job="pixeltier"}[1m])', 2)  # counters are seen at zero first
        load = Load(rate=8, seconds=15, rush=(0.5, 0.7))
        asyncio.run(load.send(found))
        assert load.statuses.get(200, 0) > 30, load.statuses
        assert load.statuses.get(422, 0) > 0, load.statuses
        _until_compared(found)
        yield found
    assert found.process.returncode == 0, "the stack did not end well"


def _until(found: Stack, query: str, least: float) -> None:
    """Wait until every value of a query is at least so much."""
    end = time.monotonic() + 60
    while not (values := _values(found, query)) or min(values) < least:
        assert time.monotonic() < end, f"{query}: {values}"
        time.sleep(0.5)


def _until_compared(found: Stack) -> None:
    """Idle workers compare what they just served, for the shadow; then two scrapes and two evaluations more."""
    image = (SAMPLES / "chelsea.jpg").read_bytes()
    small = pictures(random.Random(1), 1, 64, 64)[0]
    for task, body in (("classify", image), ("super-resolve", small)):
        done = f'pixeltier_shadow_comparisons_total{{model="{task}", result="done"}}'
        before = _values(found, done)[0]
        end = time.monotonic() + 60
        while _values(found, done)[0] == before:
            assert time.monotonic() < end, f"the shadow compared no {task}"
            httpx.post(f"{found.url}/v1/{task}", content=body, timeout=60).raise_for_status()
            time.sleep(0.5)
    time.sleep(3)


def _values(found: Stack, query: str) -> list[float]:
    return [float(series["value"][1]) for series in ask(found.prometheus, "query", query=query)]


def test_the_service_is_scraped(running: Stack) -> None:
    assert _values(running, 'up{job="pixeltier"}') == [1]
    assert _values(running, 'scrape_samples_scraped{job="pixeltier"}')[0] < 5000


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_finds_data(running: Stack, path: Path) -> None:
    """No query is empty, each has a number among its values, and legends name labels that are there."""
    wrong = []
    for panel in panels(path):
        for expression, legend in panel.targets:
            query = filled(expression, interval="1m", whole="2m")
            series = ask(running.prometheus, "query", query=query)
            if not any(math.isfinite(float(one["value"][1])) for one in series):
                wrong.append(f"{panel.title}: no number from {query}")
            missing = set(re.findall(r"\{\{(\w+)\}\}", legend)).difference(*(one["metric"] for one in series))
            if missing:
                wrong.append(f"{panel.title}: the legend's {missing} are not labels of {query}")
    assert not wrong, "\n".join(wrong)


def test_variables_and_annotations_of_the_dashboards(running: Stack) -> None:
    for path in DASHBOARDS:
        document = json.loads(path.read_text())
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
                assert ask(running.prometheus, "query", query=f"count by ({label}) ({metric})"), variable
        for annotation in document["annotations"]["list"]:
            ask(running.prometheus, "query", query=annotation["expr"])


def test_every_recording_rule_has_data(running: Stack) -> None:
    groups = yaml.safe_load((RULES / "recording.yml").read_text())["groups"]
    for rule in [rule for group in groups for rule in group["rules"]]:
        assert any(math.isfinite(value) for value in _values(running, rule["record"])), rule["record"]


def test_both_sides_of_every_alert_have_data(running: Stack) -> None:
    """An alert at rest is empty, as one with a misspelt metric is. With `bool` its comparisons answer 0 or 1
    instead, so it is empty only if a side of one is."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in [rule for group in groups for rule in group["rules"]]:
        outside = re.split(r"(\{[^}]*\})", rule["expr"])
        told = "".join(
            part if part.startswith("{") else re.sub(r"(>=|<=|==|!=|>|<)", r"\1 bool", part)
            for part in outside
        )
        assert told != rule["expr"], rule["alert"]
        assert _values(running, told), (rule["alert"], told)


def test_no_rule_failed_and_nothing_fires_that_should_not(running: Stack) -> None:
    groups = httpx.get(f"{running.prometheus}/api/v1/rules").json()["data"]["groups"]
    rules: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert not [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"]
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing <= {"PixeltierConfigRejected", "PixeltierDeadlineBurnFast", "PixeltierDeadlineBurnMedium"}
    assert "PixeltierConfigRejected" in firing  # the load has a table refused


def test_every_query_of_the_page_finds_data(running: Stack) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    queries = re.findall(r"^    (\S.*)$", page, re.MULTILINE)
    assert len(queries) > 25
    empty = [query for query in queries if not _values(running, query)]
    assert not empty, empty


def test_saved_macs_are_what_the_service_counted(running: Stack) -> None:
    """From the kernel's count through headers, counters, scrape and rule: the same ratio."""
    text = httpx.get(f"{running.url}/metrics").text
    dense, executed = (
        sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}_total{{"))
        for name in ("pixeltier_macs_dense", "pixeltier_macs_executed")
    )
    query = "1 - sum(pixeltier_macs_executed_total) / sum(pixeltier_macs_dense_total)"
    assert _values(running, query) == [pytest.approx(1 - executed / dense)]
    assert 0.2 < 1 - executed / dense < 0.99


def test_the_stack_stops_at_ctrl_c_and_stops_as_a_whole(tmp_path: Path) -> None:
    with stack(tmp_path / "first", "5s") as found:
        taken = found.prometheus.rsplit(":", 1)[1]
        command = [sys.executable, str(ROOT / "deploy" / "stack.py"), "--port", str(free_port())]
        second = subprocess.run(
            [*command, "--prometheus-port", taken, "--state", str(tmp_path / "second")],
            check=False, capture_output=True, text=True, timeout=120, cwd=ROOT,
        )  # fmt: skip
        assert second.returncode == 1
        assert f"port {taken} is taken" in second.stderr
        assert httpx.get(f"{found.url}/readyz").status_code == 200

        found.process.send_signal(signal.SIGINT)
        assert found.process.wait(60) == 0
        _nobody_answers(found)


def test_a_part_that_ends_takes_the_stack_with_it(tmp_path: Path) -> None:
    with stack(tmp_path, "5s") as found:
        children = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children")
        if not children.exists():
            pytest.skip("no /proc here")
        (prometheus,) = [
            int(pid)
            for pid in children.read_text().split()
            if "prometheus" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
        ]
        os.kill(prometheus, signal.SIGKILL)
        assert found.process.wait(60) == 1
        _nobody_answers(found)


def test_every_address_that_the_stack_prints_opens(running: Stack) -> None:
    found = dict(re.findall(r"^(\w[\w ]*?) {2,}(http\S+)$", running.said, re.MULTILINE))
    assert {"service", "prometheus", "alerts", "rules", "MACs saved", "runbooks"} <= set(found)
    for name, address in found.items():
        answer = httpx.get(address)
        assert answer.status_code == 200, (name, address)
        assert answer.headers["content-type"].startswith("text/html"), (name, address)
    bare = set(re.findall(r"http\S+", running.said)) - set(found.values())
    assert bare == set()


def test_every_runbook_of_a_firing_alert_opens(running: Stack) -> None:
    alerts = httpx.get(f"{running.prometheus}/api/v1/alerts").json()["data"]["alerts"]
    assert alerts
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        answer = httpx.get(page)
        assert answer.status_code == 200, page
        assert f'id="{anchor}">{alert["labels"]["alertname"]}<' in answer.text


def _nobody_answers(found: Stack) -> None:
    for url in (found.url, found.prometheus):
        with pytest.raises(httpx.TransportError):
            httpx.get(url)
