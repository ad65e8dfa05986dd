"""The documentation site's generated page: models.md, from the cards beside the weights."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

WEIGHTS = Path(__file__).parents[1] / "models" / "weights"

METRICS = {
    "top1": ("top-1", "{:.1%}"),
    "top5": ("top-5", "{:.1%}"),
    "agreement": ("agrees with exact", "{:.1%}"),
    "psnr_y": ("PSNR, dB", "{:.2f}"),
    "ssim_y": ("SSIM", "{:.4f}"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those found in docs/."""
    files.append(File.generated(config, "models.md", content=models_page(WEIGHTS)))
    return files


def models_page(weights: Path) -> str:
    """Every card in a folder as Markdown, in the order of their names."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(weights.glob("*.json"))]
    head = (
        "# Models\n\nThe weights that a fresh clone serves. Each lies in `models/weights` with the card that this page "
        "is made of;\n`GET /v1/models` shows the same. `pixeltier evaluate` measures the curve on data of your own, "
        "`pixeltier train`\nand `pixeltier calibrate` make models of your own. What is counted as a MAC: "
        "[counting rule](counting.md).\n"
    )
    return "\n".join([head, *(_card(card) for card in cards)])


def _card(card: dict[str, Any]) -> str:
    names = list(card["expectations"][0]["metrics"]) if card["expectations"] else []
    columns = [METRICS.get(name, (name, "{:g}")) for name in names]
    rows = [
        f"| {point['threshold']:g} | {point['macs_saved']:.1%} | "
        + " | ".join(
            form.format(point["metrics"][name]) for name, (_, form) in zip(names, columns, strict=True)
        )
        + " |"
        for point in card["expectations"]
    ]
    shape = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card["architecture"].items())
    training = card["training"]
    facts = {
        "Task": f"`{card['task']}`",
        "Version": card["version"],
        "Shape": shape,
        "Dense reference": card["macs_dense_rule"],
        "Calibrated on": card["calibration_data"],
        "Trained by": f"`{training['command']}`" if "command" in training else "",
        "Training": training.get("note", ""),
        "Steps, hours": f"{training['steps']}, {training['hours']}"
        if {"steps", "hours"} <= training.keys()
        else "",
        "Licence": f"`{card['licence']}`",
        "Made from": card.get("origin", ""),
    }
    return "\n".join(
        [
            f"## {card['name']}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in facts.items() if value),
            "",
            f"Measured on {card['expectations_data']}:",
            "",
            "| threshold | MACs saved | " + " | ".join(title for title, _ in columns) + " |",
            "|" + "---|" * (2 + len(columns)),
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
