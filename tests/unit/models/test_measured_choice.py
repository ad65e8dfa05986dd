"""The fastest of several: by the clock, remembered, the same for processes that start together."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixeltier.models import measured_choice
from pixeltier.models.measured_choice import FILE, Choice, cache_directory, fastest, machine


class FakeClock:
    """Time goes by only where a candidate says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, *milliseconds: float) -> Callable[[], None]:
        times: Iterator[float] = iter((*milliseconds, *[milliseconds[-1]] * 100))

        def run() -> None:
            self.runs.append(name)
            self.now += next(times) / 1000

        return run


@pytest.mark.parametrize(
    ("first", "second", "wanted"), [(10, 5, "b"), (5, 10, "a"), (10, 9.5, "a"), (10, 8.9, "b")]
)
def test_the_fastest_is_taken(tmp_path: Path, first: float, second: float, wanted: str) -> None:
    """Unless it is hardly faster than the first."""
    clock = FakeClock()
    runs = {"a": clock.takes("a", first), "b": clock.takes("b", second)}
    choice = fastest("key", lambda: runs, tmp_path, clock)
    assert choice.name == wanted
    assert choice.milliseconds == pytest.approx({"a": first, "b": second})


def test_the_first_run_and_slow_moments_do_not_count_and_candidates_take_turns(tmp_path: Path) -> None:
    clock = FakeClock()
    runs = {"a": clock.takes("a", 99, 50, 4, 50), "b": clock.takes("b", 99, 50, 50, 3)}
    assert fastest("key", lambda: runs, tmp_path, clock) == Choice("b", {"a": 4, "b": 3})
    assert clock.runs[:6] == ["a", "b", "a", "b", "a", "b"]


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    clock = FakeClock()
    runs = {"a": clock.takes("a", 2), "b": clock.takes("b", 1)}
    first = fastest("one machine", lambda: runs, tmp_path, clock)
    assert fastest("one machine", lambda: pytest.fail("measured again"), tmp_path) == first
    slower = {"a": clock.takes("a", 1), "b": clock.takes("b", 2)}
    assert fastest("another machine", lambda: slower, tmp_path, clock).name == "a"
    assert set(json.loads((tmp_path / FILE).read_text())) == {"one machine", "another machine"}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"key": 1}', '{"key": {"name": "a"}}', '{"key": {"milliseconds": 3}}']
)
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    clock = FakeClock()
    assert fastest("key", lambda: {"a": clock.takes("a", 1)}, tmp_path, clock).name == "a"
    assert fastest("key", lambda: pytest.fail("measured again"), tmp_path).name == "a"


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock = FakeClock()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        assert fastest("key", lambda: {"a": clock.takes("a", 1)}, directory, clock).name == "a"


def test_only_the_newest_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_choice, "MOST_ENTRIES", 3)
    clock = FakeClock()
    for number in range(5):
        fastest(str(number), lambda: {"a": clock.takes("a", 1)}, tmp_path, clock)
    assert list(json.loads((tmp_path / FILE).read_text())) == ["2", "3", "4"]
    assert stat.S_ISREG((tmp_path / FILE).stat().st_mode)
    assert not list(tmp_path.glob("*.part"))


RACE = """
import sys, time
from pathlib import Path
from pixeltier.models.measured_choice import fastest
def candidates():
    with open(sys.argv[2], "a") as log: log.write(sys.argv[3])
    return {"a": lambda: time.sleep(0.02)}
fastest("key", candidates, Path(sys.argv[1]))
"""


def test_processes_that_start_together_measure_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(log), str(number)])
        for number in range(3)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(log.read_text()) == 1


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the container image: nothing is kept, nothing fails."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    assert cache_directory() is None
    assert fastest("key", lambda: {"a": clock.takes("a", 1)}, None, clock).name == "a"
    assert not list(tmp_path.iterdir())


def test_where_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_directory() == Path("/cache/pixeltier")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory() == Path("/home/somebody/.cache/pixeltier")
    assert machine().rpartition(" x")[2].isdigit()
