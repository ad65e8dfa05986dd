"""What an evaluation says: a table on the terminal, a file of rows, the curve of a card."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pixeltier.models.atomic_files import replacing
from pixeltier.models.cards import WEIGHTS, Difference, Expectation, load_card, write_card
from pixeltier.models.evaluation.points import RESAMPLES, SEED, Evaluation, Row

DIGITS = 5


def table(evaluation: Evaluation) -> str:
    """Every row with its differences to the exact tier, for a terminal."""
    metrics = list(evaluation.learned[0].metrics)
    compared = [name for name in metrics if any(name in row.to_exact for row in _all(evaluation))]
    timed = any(row.milliseconds is not None for row in _all(evaluation))
    head = ["", "threshold", "macs_saved", *(["ms"] if timed else [])]
    for name in metrics:
        head += [name, "to exact [95 %]"] if name in compared else [name]
    lines = [head]
    for kind, rows in (("", evaluation.learned), ("oracle", evaluation.oracle), ("", evaluation.rivals)):
        lines += [_line(kind, row, metrics, compared, timed) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _all(evaluation: Evaluation) -> Iterable[Row]:
    return (*evaluation.learned, *evaluation.oracle, *evaluation.rivals)


def _line(kind: str, row: Row, metrics: Sequence[str], compared: Sequence[str], timed: bool) -> list[str]:
    cells = [f"{kind} {row.name or ''}".strip(), _number(row.threshold), _number(row.macs_saved)]
    if timed:
        cells.append("" if row.milliseconds is None else f"{row.milliseconds:.2f}")
    for name in metrics:
        cells.append(_number(row.metrics.get(name)))
        if name in compared:
            cells.append(_interval(row.to_exact.get(name)))
    return cells


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n")


def document(task: str, version: str, data: str, evaluation: Evaluation) -> dict[str, Any]:
    """The rows as JSON values, with what one needs to know of the intervals."""
    return {
        "task": task,
        "model_version": version,
        "data": data,
        "images": evaluation.images,
        "intervals": f"95 %, paired bootstrap over images, {RESAMPLES} resamples, seed {SEED}",
        "rows": [row.as_json() for row in evaluation.learned],
        "oracle": [row.as_json() for row in evaluation.oracle],
        "rivals": [row.as_json() for row in evaluation.rivals],
    }


def update_card(
    task: str,
    evaluation: Evaluation,
    data: str,
    directory: Path | None,
    int8_loss: float | None = None,
) -> None:
    """Store the learned curve and its intervals in the card of a directory, as measured on data of that name.

    Args:
        int8_loss: top-1 that a base in int8 loses, see `Int8`; None where it was not measured.
    """
    points = [
        Expectation(
            threshold=row.threshold,
            macs_saved=round(row.macs_saved, DIGITS),
            metrics={name: round(value, DIGITS) for name, value in row.metrics.items()},
            to_exact={name: _rounded(difference) for name, difference in row.to_exact.items()},
        )
        for row in sorted(evaluation.learned, key=lambda row: row.threshold or 0.0)
        if row.threshold is not None and row.macs_saved is not None
    ]
    card = load_card(task, directory)
    changes: dict[str, Any] = {"expectations": points, "expectations_data": data}
    if card.int8 is not None and int8_loss is not None:
        measured = {"top1_loss": round(int8_loss, DIGITS), "loss_data": data}
        changes["int8"] = card.int8.model_copy(update=measured)
    write_card(card.model_copy(update=changes), directory or WEIGHTS)


def _rounded(difference: Difference) -> Difference:
    return Difference(**{name: round(value, DIGITS) for name, value in difference.model_dump().items()})
