"""The compiled extension as it is installed: nothing of the machine it was built on."""

import re
import sys
import sysconfig
from pathlib import Path

from pixeltier import native

ROOT = Path(__file__).parents[2]
BINARY = Path(str(native._C.__file__)).read_bytes()
TEXTS = {text.decode() for text in re.findall(rb"[\x20-\x7e]{4,}", BINARY)}


def test_it_names_no_folder_of_the_build() -> None:
    folders = {
        str(ROOT),
        sys.prefix,
        sysconfig.get_path("platlib"),
        str(Path.home()),
        "/build/",
        "site-packages",
    }
    assert len(TEXTS) > 500
    assert [text for text in TEXTS if any(folder in text for folder in folders)] == []
    # Headers of the compiler apart, no message of a check names a file by an absolute path.
    assert [text for text in TEXTS if re.match(r"/\S+\.(cpp|h|cu|cuh)\b", text)] == []
    assert "native/src/ops/convolution.cpp" in TEXTS


def test_it_is_stripped_and_looks_for_torch_beside_itself_only() -> None:
    assert b".debug_info" not in BINARY
    assert b".symtab" not in BINARY
    assert {text for text in TEXTS if text.startswith("$ORIGIN") or text.endswith("torch/lib")} == {
        "$ORIGIN/../../torch/lib"
    }
