"""What editors slip into files: a byte-order mark is taken, the rest is named with its place."""

from pathlib import Path

import pytest

from pixeltier.models.cards import card_path, load_labels
from pixeltier.models.photo_table import PhotoRow, read_rows
from pixeltier.models.text_files import (
    TextError,
    decode,
    invisible_in_toml,
    loads_json,
    loads_toml,
    read_text,
)
from pixeltier.models.training.loop import TrainingBudget, read_config

NO_BREAK = "\u00a0"
ZERO_WIDTH = "\u200b"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    assert read_text(file) == "port = 1\r\n"
    assert loads_toml(read_text(file)) == {"port": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_told(encoding: str) -> None:
    with pytest.raises(TextError, match=r"UTF-(16|32).*save it as UTF-8"):
        decode("port = 1\n".encode(encoding))


def test_bytes_of_another_encoding_have_a_place() -> None:
    with pytest.raises(TextError, match="not UTF-8: byte 0xE9 at line 2, column 5"):
        decode("a = 1\nb = é".encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"a = 1\nport{NO_BREAK}= 1", r"NO-BREAK SPACE \(U\+00A0\) at line 2, column 5"),
        (f"# {NO_BREAK}\n{ZERO_WIDTH}port = 1", r"ZERO WIDTH SPACE \(U\+200B\) at line 2, column 1"),
        ("a = 1\n\ufeffport = 1", r"BYTE-ORDER MARK \(U\+FEFF\) at line 2, column 1"),
        ("host = “::1”", r"LEFT DOUBLE QUOTATION MARK \(U\+201C\) at line 1, column 8"),
        ("host = ‘::1’", r"LEFT SINGLE QUOTATION MARK \(U\+2018\) at line 1, column 8"),
        ("a = −1", r"MINUS SIGN \(U\+2212\) at line 1, column 5"),
        ("a ＝ 1", r"FULLWIDTH EQUALS SIGN \(U\+FF1D\) at line 1, column 3"),
        ("a = 1\u2028b = 2", r"LINE SEPARATOR \(U\+2028\) at line 1, column 6"),
        ("a\u3164 = 1", r"HANGUL FILLER \(U\+3164\) at line 1, column 2"),
        ("a = \u202e1", r"RIGHT-TO-LEFT OVERRIDE \(U\+202E\) at line 1, column 5"),
    ],
)
def test_toml_names_what_nobody_sees(text: str, said: str) -> None:
    with pytest.raises(TextError, match=said):
        loads_toml(text)


def test_toml_that_is_wrong_by_itself_blames_no_character() -> None:
    with pytest.raises(TextError) as raised:
        loads_toml('said = "a “quoted”\u00a0word" # and – a dash\nport = = 1')
    assert "U+" not in str(raised.value)
    assert "line 2" in str(raised.value)


def test_comments_may_hold_anything_and_strings_may_not() -> None:
    assert invisible_in_toml(f'a = "#" # {NO_BREAK}\n# {ZERO_WIDTH}') is None
    assert invisible_in_toml(f'a = "# {ZERO_WIDTH}"') == (
        "ZERO WIDTH SPACE (U+200B) at line 1, column 8 does not belong there: delete it or type it anew"
    )
    assert invisible_in_toml('a = "\\u200b"') is None  # written out it is meant


def test_json_names_it_too() -> None:
    with pytest.raises(TextError, match=r"NO-BREAK SPACE \(U\+00A0\) at line 1, column 6"):
        loads_json(f'{{"a":{NO_BREAK}1}}')
    with pytest.raises(TextError, match=r"LEFT DOUBLE QUOTATION MARK"):
        loads_json('{"said": "“yes”", “a”: 1}')


def test_a_training_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbfsteps = 3\n")
    assert read_config(file, TrainingBudget).steps == 3
    file.write_text(f"steps ={NO_BREAK}3\n")
    with pytest.raises(ValueError, match=r"config\.toml: .*NO-BREAK SPACE \(U\+00A0\) at line 1, column 8"):
        read_config(file, TrainingBudget)


def test_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join([b"name"] * 1000))
    (tmp_path / "resnet18.json").write_bytes(card_path("classify").read_bytes())
    assert load_labels(tmp_path) == ["name"] * 1000
    (tmp_path / "labels.txt").write_bytes("\n".join(["naïve"] * 1000).encode("latin-1"))
    with pytest.raises(TextError, match=r"labels\.txt: not UTF-8: byte 0xEF at line 1, column 3"):
        load_labels(tmp_path)


def test_a_photo_table_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xef\xbb\xbfpath,class_index,split\r\na.jpg,3,val\r\nb.jpg,4,train\r\n")
    assert read_rows(table) == [PhotoRow("a.jpg", 3, "val"), PhotoRow("b.jpg", 4, "train")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("path,class_index\na.jpg,3\n".encode("utf-16"), "labels.csv: the file is UTF-16"),
        (f"path{ZERO_WIDTH},class_index\na.jpg,3\n".encode(), r"ZERO WIDTH SPACE \(U\+200B\) at line 1, column 5"),
        (f"path,class_index\na.jpg,3\nb.jpg,{ZERO_WIDTH}4\n".encode(), r"line 3: .*U\+200B\) at line 3, column 7"),
        ("“path”,class_index\na.jpg,3\n".encode(), r"LEFT DOUBLE QUOTATION MARK"),
        (b"path,class_index\na.jpg,cat\n", "line 2: class_index must be a whole number, not 'cat'$"),
        (b"path,class_index\na.jpg\n", "line 2: class_index must be a whole number, not None"),
        (b"path,class_index\n,3\n", "line 2: the row has no path"),
        (b'path,class_index\n"a.jpg,3\n', "unexpected end of data"),
    ],
)  # fmt: skip
def test_a_photo_table_says_what_is_wrong_and_where(tmp_path: Path, data: bytes, said: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read_rows(table)
