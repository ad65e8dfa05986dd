"""Empty virtual environments that see what a distribution says it needs, and nothing else: no index is asked."""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def site(self) -> Path:
        (found,) = (self.folder / "lib").glob("python3.*/site-packages")
        return found

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A command of the environment, in a folder where nothing can be imported from."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIXELTIER_", "PYTHON"))
        }
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *command: str) -> str:
        """What a command prints that must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """This interpreter's pip, for the environment."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python]
        return subprocess.run(
            [*pip, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def install(self, wheels: Path, requirement: str) -> None:
        """As from an index that holds the wheels alone: what else is needed must be there already."""
        done = self.pip("install", "--no-index", "--find-links", str(wheels), requirement)
        assert done.returncode == 0, done.stdout + done.stderr


def empty(folder: Path) -> Environment:
    """An environment without anything, pip included."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return Environment(folder)


def provide(environment: Environment, requirements: list[str]) -> set[str]:
    """Link what is needed here into the environment, ours apart; returns the distributions' names."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        ):
            continue
        name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name.startswith("pixeltier") or (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found = metadata.distribution(name)
        _link(environment.site, found)
        waiting += [(Requirement(text), wanted) for text in found.requires or ()]
    return {str(name) for name, _ in seen}


def _link(site: Path, found: metadata.Distribution) -> None:
    tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    for top in tops:
        source, target = Path(str(found.locate_file(top))), site / top
        if not target.exists():
            target.symlink_to(source)
