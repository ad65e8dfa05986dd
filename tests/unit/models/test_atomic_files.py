"""Every file is written whole or not at all."""

import ast
from pathlib import Path

import pytest

from pixeltier.models.atomic_files import replacing

ROOT = Path(__file__).resolve().parents[3]


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert (partial.parent, partial.suffix) == (path.parent, path.suffix)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "card.json"):
        pass
    assert not list(tmp_path.iterdir())


def _renames(path: Path) -> bool:
    """Whether a file calls `rename`, or `replace` with one argument: that of a string has two."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [(call.func.attr, call) for call in calls if isinstance(call.func, ast.Attribute)]
    return any(
        name == "rename" or (name == "replace" and len(call.args) == 1 and not call.keywords)
        for name, call in named
    )


def test_nothing_else_in_models_renames_files() -> None:
    """A second way to write a file whole would miss what this one does for power cuts and failures."""
    found = [path.name for path in (ROOT / "models").rglob("*.py") if _renames(path)]
    assert found == ["atomic_files.py"]
