"""The guides: the site builds without a warning, and what they point at is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pages import write_between
from docs.site_hooks import models_page
from pixeltier.models.cards import WEIGHTS, load_card
from pixeltier.models.training.classify_config import ClassifyConfig, TeacherConfig
from pixeltier.models.training.loop import read_config
from pixeltier.models.training.super_resolve_config import SuperResolveConfig
from pixeltier.service.configuration.settings import OTHER_VARIABLES, PREFIX, Settings

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*GUIDES, *sorted(ROOT.glob("*.md"))]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    assert "srresnet_x4" in (tmp_path / "site" / "models" / "index.html").read_text()
    # Whoever reads the guides tells nobody: nothing is fetched from elsewhere.
    fetched = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:)?//(?!www\.w3\.org)[^"]*"')
    for page in (tmp_path / "site").rglob("*.html"):
        assert not [
            hit[0] for hit in fetched.finditer(page.read_text()) if 'rel="canonical"' not in hit[0]
        ], page


def test_every_guide_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [guide.name for guide in GUIDES if f": {guide.name}" not in navigation] == []


def test_the_models_page_is_made_of_the_cards() -> None:
    page = models_page(WEIGHTS)
    for task in ("classify", "super-resolve"):
        card = load_card(task)
        assert f"## {card.name}" in page
        assert card.licence in page
        for point in card.expectations:
            assert f"| {point.threshold:g} | {point.macs_saved:.1%} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and target != "models.md":  # the one page that the site generates
            assert (page.parent / target).exists(), target
    if page.name == "CONTRIBUTING.md":  # it names files that are yet to be written
        return
    for path in re.findall(r"`((?:tests|deploy|service|models|docs|benchmarks|native)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][a-z-]*)", text)) <= targets
    for module in re.findall(r"python -m (benchmarks\.\w+|tests\.[\w.]+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_uses_the_command_says_where_it_is(page: Path) -> None:
    """From a clone it is in .venv/bin, which no shell looks into by itself."""
    text = page.read_text()
    commands = "serve|classify|upscale|health|doctor|tiers|key|evaluate|train|calibrate|import"
    if page.name != "CHANGELOG.md" and re.search(rf"(?<![/\w-])pixeltier ({commands})\b", text):
        assert ".venv/bin" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_change_of_the_table_that_a_page_shows_has_its_reason(page: Path) -> None:
    for line in page.read_text().splitlines():
        if re.search(r"pixeltier tiers set \S+=", line):
            assert "--reason" in line, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_a_page_names_exists(page: Path) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    # Compose's build argument, and names that stand for any.
    named = set(re.findall(r"PIXELTIER_[A-Z_]*[A-Z]\b", page.read_text())) - {"PIXELTIER_TORCH_INDEX"}
    assert named - known - {"PIXELTIER_SANITIZE"} == set()


def test_tables_are_put_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb")
    write_between(page, "x", "new")
    assert page.read_text() == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="y"):
        write_between(page, "y", "new")


def test_configurations_in_the_training_guide_are_understood(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), flags=re.DOTALL)
    kinds = []
    configs = ROOT / "models" / "configs"
    for number, block in enumerate([*blocks, *(path.read_text() for path in sorted(configs.glob("*.toml")))]):
        config = tmp_path / f"{number}.toml"
        config.write_text(block)
        if "start_weights" in block:
            found = read_config(config, ClassifyConfig, teachers=TeacherConfig)
            assert found.photos or found.labels
            kinds.append("classify")
        else:
            assert read_config(config, SuperResolveConfig).photos
            kinds.append("super-resolve")
    assert kinds[-2:] == ["classify", "super-resolve"]
    assert set(kinds[:-2]) == {"classify", "super-resolve"}
