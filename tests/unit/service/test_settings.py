"""Where a setting comes from, and what is refused."""

from pathlib import Path

import pytest

from service import settings
from service.settings import ConfigurationError


def test_order_of_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pixeltier.toml"
    file.write_text("port = 1001\nqueue_limit = 11\nslots = 1\n")
    monkeypatch.setenv("PIXELTIER_PORT", "1002")
    monkeypatch.setenv("PIXELTIER_QUEUE_LIMIT", "12")
    found = settings.load({"port": "1003", "host": None}, config_file=file)
    assert (found.port, found.queue_limit, found.slots, found.host) == (1003, 12, 1, "127.0.0.1")
    monkeypatch.setenv("PIXELTIER_CONFIG_FILE", str(file))
    assert settings.load().slots == 1


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELTIER_PORT", "")
    assert settings.load().port == 8000


def test_unknown_names_are_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELTIER_QUEUE_LIMITS", "3")
    with pytest.raises(
        ConfigurationError, match=r"PIXELTIER_QUEUE_LIMITS.*did you mean PIXELTIER_QUEUE_LIMIT\?"
    ):
        settings.load()
    monkeypatch.delenv("PIXELTIER_QUEUE_LIMITS")
    file = tmp_path / "c.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(ConfigurationError, match=r"prot in .*c\.toml; did you mean port\?"):
        settings.load(config_file=file)


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELTIER_ISA", "portable")
    monkeypatch.setenv("PIXELTIER_URL", "http://x")
    settings.load()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PIXELTIER_PORT", "http", "PIXELTIER_PORT"),
        ("PIXELTIER_PORT", "70000", "PIXELTIER_PORT"),
        ("PIXELTIER_POOL", "fork", "PIXELTIER_POOL"),
        ("PIXELTIER_TIERS_FILE", "/nowhere.toml", "tiers_file"),
        ("PIXELTIER_MAX_TIMEOUT_MS", "5", "default_timeout_ms"),
    ],
)
def test_bad_values_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        settings.load()


def test_a_bad_flag_is_named_as_a_flag() -> None:
    with pytest.raises(ConfigurationError, match="--queue-limit"):
        settings.load({"queue_limit": "0"})


def test_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("port = = 3")
    with pytest.raises(ConfigurationError, match=r"c\.toml"):
        settings.load(config_file=file)


def test_the_effective_configuration_is_json() -> None:
    import json

    shown = json.loads(json.dumps(settings.load().effective()))
    assert shown["port"] == 8000
    assert set(shown) == set(settings.Settings.model_fields)
