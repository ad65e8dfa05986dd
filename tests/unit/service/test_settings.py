"""Where a setting comes from, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixeltier.service.command_line.main import main
from pixeltier.service.configuration import list_settings, settings
from pixeltier.service.configuration.settings import ConfigurationError


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
    shown = json.loads(json.dumps(settings.load().effective()))
    assert shown["port"] == 8000
    assert set(shown) == set(settings.Settings.model_fields)


LISTS: dict[str, tuple[str, ...]] = {
    "cors_origins": ("https://a.example", "http://b:8080"),
    "forwarded_allow_ips": ("10.0.0.0/8", "unix"),
}
"""Two valid entries for every setting that is a list."""


def test_every_list_setting_is_in_the_table_above() -> None:
    fields = settings.Settings.model_fields
    assert set(LISTS) == {name for name in fields if list_settings.is_list(fields[name].annotation)}


def _given(
    how: str, name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> settings.Settings:
    """The settings with one of them given as a flag, as a variable, or in the file."""
    if how == "flag":
        return settings.load({name: text})
    if how == "variable":
        monkeypatch.setenv(f"PIXELTIER_{name.upper()}", text)
        return settings.load()
    file = tmp_path / "c.toml"
    file.write_text(f"{name} = {text if how == 'array' else json.dumps(text)}\n")
    return settings.load(config_file=file)


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_one_syntax_everywhere(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, first = list(LISTS[name]), LISTS[name][0]
    for text, expected in (
        (",".join(both), both),
        (" , ".join(both), both),
        (json.dumps(both), both),
        (first, [first]),
        ("[]", []),
    ):
        found: Any = getattr(_given(how, name, text, tmp_path, monkeypatch), name)
        assert list(found) == expected, text


@pytest.mark.parametrize("name", LISTS)
def test_in_the_file_a_list_may_be_an_array(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Any = getattr(_given("array", name, json.dumps(LISTS[name]), tmp_path, monkeypatch), name)
    assert list(found) == list(LISTS[name])


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("text", ["{},,", ",", '["{}"', '[["{}"]]', '[null, "{}"]'])
def test_a_bad_list_is_refused_by_name(
    name: str, how: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"flag": "--" + name.replace("_", "-"), "variable": f"PIXELTIER_{name.upper()}", "file": name}
    with pytest.raises(ConfigurationError) as caught:
        _given(how, name, text.replace("{}", LISTS[name][0]), tmp_path, monkeypatch)
    assert str(caught.value).startswith(f"{shown[how]}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LISTS)
def test_a_bad_list_is_one_line_and_no_traceback(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"PIXELTIER_{name.upper()}", "[")
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pixeltier: PIXELTIER_{name.upper()}: neither comma separated nor a JSON list")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", LISTS)
def test_a_flag_given_twice_adds_to_its_list(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[settings.Settings] = []
    monkeypatch.setattr("pixeltier.service.server.serve.serve", served.append)
    flag = "--" + name.replace("_", "-")
    assert main(["serve", flag, LISTS[name][0], f"{flag}={LISTS[name][1]}"]) == 0
    assert list(getattr(served[0], name)) == list(LISTS[name])


@pytest.mark.parametrize("name", LISTS)
def test_the_help_says_how_a_list_is_written(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = (
        " ".join(capsys.readouterr().out.split())
        .rpartition(f"--{name.replace('_', '-')} ")[2]
        .partition("--")[0]
    )
    assert list_settings.SYNTAX in said
    default = settings.Settings.model_fields[name].default
    shown = f"Unset: {','.join(settings.LOOPBACK)}." if default is None else f"[{','.join(default)}]"
    assert shown in said
    assert "JSON" not in said


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ("https://a.example/", "write https://a.example"),
        ("https://A.example", "write https://a.example"),
        ("https://a.example:443", "write https://a.example"),
        ("http://a.example:80", "write http://a.example"),
        ("a.example", "is not an origin"),
        ("https://a.example/path", "is not an origin"),
        ("'https://a.example'", "is not an origin"),
        ("https://a.example:port", "is not an origin"),
        ("https://a.example https://b.example", "is not an origin"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, hint: str) -> None:
    """It would never match: calls from there would be refused with nothing said."""
    with pytest.raises(ConfigurationError, match=f"--cors-origins: .*{hint}"):
        settings.load({"cors_origins": origin})


@pytest.mark.parametrize("origin", ["*", "https://a.example", "http://[::1]:8080", "chrome-extension://abc"])
def test_origins_as_browsers_send_them(origin: str) -> None:
    assert settings.load({"cors_origins": origin}).cors_origins == (origin,)
