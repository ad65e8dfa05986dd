"""Tokens, tiers, settings and keys as editors save them: a byte-order mark is taken, what nobody sees is named."""

import logging
import re
from pathlib import Path

import pytest

from pixeltier.service.api import access
from pixeltier.service.api.admin_tokens import AdminTokens
from pixeltier.service.command_line import admin_client, tier_changes
from pixeltier.service.command_line.main import main
from pixeltier.service.command_line.messages import CommandError
from pixeltier.service.configuration import settings, token_file
from pixeltier.service.configuration.settings import ConfigurationError
from pixeltier.service.configuration.token_file import TokenFileError
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.schema import TierTableError
from tests.tier_table import TIERS

MARK = b"\xef\xbb\xbf"
ALICE, BOB = "alice-has-a-long-token-1", "bob-has-a-long-token-222"


def test_a_byte_order_mark_is_taken_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(MARK + b"queue_limit = 7\n")
    assert settings.load(config_file=file).queue_limit == 7
    file.write_bytes(MARK + TIERS.encode())
    assert schema.load(file) == schema.parse(TIERS, source="")
    assert schema.read(file) == TIERS  # no other version of the table for its mark
    file.write_bytes(MARK + f"alice:{ALICE}\n".encode())
    assert token_file.read(file).tokens == (("alice", ALICE),)
    file.write_bytes(MARK + b"anonymous = true\n")
    access.load(file)


@pytest.mark.parametrize("value", ["“fast”", '"fast\u200b"', '"fast\u00a0"'])
def test_a_tier_file_names_the_character(value: str) -> None:
    text = TIERS.replace('default = "balanced"', f"default = {value}")
    assert text != TIERS
    with pytest.raises(TierTableError, match=r"\(U\+[0-9A-F]{4}\) at line \d+, column \d+ does not belong"):
        schema.parse(text, source="tiers.toml")


def test_a_description_may_be_typeset() -> None:
    said = "Hard to tell from exact."
    assert said in TIERS
    schema.parse(TIERS.replace(said, "L’œil\u00a0: rien"), source="")


def test_a_configuration_file_names_the_character(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('port = 1\nhost = "::1\u200b"\n')
    with pytest.raises(ConfigurationError, match=r"ZERO WIDTH SPACE \(U\+200B\) at line 2, column 12"):
        settings.load(config_file=file)
    file.write_text("port\u00a0= 1\n")
    with pytest.raises(ConfigurationError, match=r"NO-BREAK SPACE \(U\+00A0\) at line 1, column 5"):
        settings.load(config_file=file)
    file.write_bytes("port = 1\n".encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"c\.toml: the file is UTF-16: save it as UTF-8"):
        settings.load(config_file=file)


def test_a_key_file_names_the_character(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[limits]\ntiers = ["fast\u200b"]\n')  # would allow no tier and never say so
    with pytest.raises(access.AccessFileError, match=r"ZERO WIDTH SPACE \(U\+200B\) at line 2, column 15"):
        access.load(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"bob:{BOB}\u00a0", r"line 3: NO-BREAK SPACE \(U\+00A0\) at column 29"),
        (f"bob\u200b:{BOB}", r"line 3: ZERO WIDTH SPACE \(U\+200B\) at column 4"),
        (f"\ufeffbob:{BOB}", r"line 3: BYTE-ORDER MARK \(U\+FEFF\) at column 1"),
        (f"“bob:{BOB}”", r"line 3: LEFT DOUBLE QUOTATION MARK \(U\+201C\) at column 1"),
        (f"bob:é{BOB}", "line 3: the character at column 5 is not ASCII"),
        (f"bob\x0b:{BOB}", "line 3: .*U.000B. at column 4"),
        ("bob:short", "line 3: a token is at least 20"),
        (f"b ob:{BOB}", "line 3: a name is"),
    ],
)
def test_a_bad_token_line_disables_itself_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, said: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who\r\nalice:{ALICE}\r\n{line}\r\n", newline="")
    found = token_file.read(file)
    assert found.tokens == (("alice", ALICE),)
    with caplog.at_level(logging.WARNING):
        AdminTokens(file)
    (record,) = caplog.records
    assert re.search(said, record.__dict__["why"]), record.__dict__["why"]
    assert BOB not in str(record.__dict__)
    assert "short" not in str(record.__dict__)


def test_a_file_without_a_good_token_says_why_by_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"alice:{ALICE}\u00a0\nbob:short\n")
    with pytest.raises(
        TokenFileError, match=r"no token in it; line 1: .*; line 2: a token is at least"
    ) as raised:
        AdminTokens(file)
    assert ALICE not in str(raised.value)
    file.write_bytes(f"alice:{ALICE}\n".encode("utf-16"))
    with pytest.raises(TokenFileError, match="UTF-16"):
        AdminTokens(file)


def test_the_command_line_reads_the_token_file_as_the_service_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(admin_client.TOKEN_VARIABLE, raising=False)
    file = tmp_path / "tokens"
    file.write_bytes(MARK + f"bad\u00a0line\nalice:with:colons:{ALICE}\n".encode())
    assert admin_client._read_token(file) == f"with:colons:{ALICE}"
    monkeypatch.setenv(admin_client.TOKEN_VARIABLE, f" \ufeff{ALICE}\n")
    with pytest.raises(CommandError, match=r"PIXELTIER_ADMIN_TOKEN: BYTE-ORDER MARK \(U\+FEFF\) at column 1"):
        admin_client._read_token(None)
    assert main(["tiers", "show", "--url", "http://127.0.0.1:9"]) == 1
    assert "BYTE-ORDER MARK" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "text"), [("t.json", '{"default":\u00a0"fast"}'), ("t.toml", "a\u00a0= 1")])
def test_a_table_for_the_command_line(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(CommandError, match=r"NO-BREAK SPACE \(U\+00A0\) at line 1, column \d"):
        tier_changes.read_document(file)
    file.write_bytes(MARK + (b'{"a": 1}' if name.endswith("json") else b"a = 1"))
    assert tier_changes.read_document(file) == {"a": 1}
