"""What the commands say when they fail: one line on stderr, and their exit status."""

import sys

FAILED = 1
USAGE_ERROR = 2


def complain(message: str) -> None:
    """Say it on stderr, in one line."""
    print(f"pixeltier: {one_line(message)}", file=sys.stderr)


def one_line(message: object) -> str:
    """A text without line breaks."""
    return " ".join(str(message).split())


def refuse(message: str, status: int = USAGE_ERROR) -> int:
    """Say it; returns the exit status."""
    complain(message)
    return status


class CommandError(Exception):
    """What the operator can mend; one line on stderr."""
