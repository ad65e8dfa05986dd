"""What is printed, and kept for a file."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Report:
    """Markdown that is printed as it comes and kept for a file."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Add a line."""
        print(text, flush=True)
        self.lines.append(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + "---|" * len(head))
        for row in rows:
            self.say("| " + " | ".join(str(cell) for cell in row) + " |")
        self.say()

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A section; an error in it is reported and goes no further."""
        self.say(f"## {title}\n")
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.say(f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n")
        print(f"({title}: {time.monotonic() - started:.0f} s)\n", flush=True)
