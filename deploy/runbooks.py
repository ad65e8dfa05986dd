"""The alerts' sections of docs/monitoring.md as a page that Prometheus serves beside its alerts.

python deploy/runbooks.py        # writes deploy/prometheus/user/runbooks.html
"""

import re
from pathlib import Path

import markdown

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "monitoring.md"
PAGE = ROOT / "deploy" / "prometheus" / "user" / "runbooks.html"

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Pixeltier: runbooks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.4rem; scroll-margin-top: 1rem; }
h2:target { outline: 2px solid; outline-offset: 6px; }
p { margin: 0.4rem 0; }
code { font-size: 0.9em; }
</style>
</head>
<body>
<h1>Runbooks</h1>
"""


def page() -> str:
    """The page, from the section "Alerts"."""
    alerts = SOURCE.read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    sections = alerts[alerts.index("\n### ") :]
    text = re.sub(
        r"\[([^\]]+\.md)\]\([^)#]+\.md\)", r"docs/\1", sections
    )  # the other guides are not served here
    body = markdown.markdown(text.replace("\n### ", "\n## "), extensions=["toc"])
    return f"{HEAD}{body}\n</body>\n</html>\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
