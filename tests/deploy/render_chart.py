"""Helm in a process of its own: its library brings Go's runtime, which would keep signals from the tests.

Reads {"action": "lint", "package" or "template", "chart", "values", "name", "namespace", "folder"}, writes
{"lint": [...]}, {"archive": "path"}, {"files": {...}} or {"refused": "why"}; JSON both.
"""

import json
import sys
from typing import Any

import helm_python

WARNING = 2


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    values = asked["values"]
    try:
        if asked["action"] == "lint":
            report = helm_python.lint(asked["chart"], values, strict=True)
            said = [found["error"] for found in report["messages"] if found["severity"] >= WARNING]
            return {"lint": [*said, *report["errors"]]}
        if asked["action"] == "package":
            return {"archive": helm_python.package(asked["chart"], destination=asked["folder"])}
        with helm_python.Chart.load(asked["chart"]) as chart:
            return {"files": chart.render(values, name=asked["name"], namespace=asked["namespace"])}
    except helm_python.HelmError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
