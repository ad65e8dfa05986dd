"""The service's settings as values of the chart: a misspelt one is refused before anything is installed.

python deploy/helm/settings.py        # writes them into deploy/helm/pixeltier/values.schema.json
"""

import json
import re
from pathlib import Path

from pixeltier.service.configuration.settings import PREFIX, Settings

SCHEMA = Path(__file__).with_name("pixeltier") / "values.schema.json"
# What the chart's own files say: mounts, ports and hardware.
CHARTS_OWN = frozenset(
    {"admin_token_file", "api_keys_file", "device", "host", "port", "state_dir", "tiers_file", "uds"}
)
ANY = {"$ref": "#/definitions/setting"}


def schema() -> str:
    """The text of the schema with the settings of this version in it; nothing else in it is changed."""
    document = json.loads(SCHEMA.read_text(encoding="utf-8"))
    names = [*sorted(Settings.model_fields.keys() - CHARTS_OWN), "isa"]
    document["properties"]["settings"]["properties"] = {PREFIX + name.upper(): ANY for name in names}
    text = json.dumps(document, indent=2) + "\n"
    return re.sub(
        r'\{\s*("\$ref": "\S+")\s*\}', r"{\1}", text
    )  # a reference on a line, as a person writes it


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
