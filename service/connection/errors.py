"""The one exception of the client."""

from typing import Any

UNREACHABLE = "unreachable"
DEADLINE = "deadline-exceeded"
UNEXPECTED = "unexpected-answer"
NOT_READY = "not-ready"


class PixeltierError(Exception):
    """The service answered with a problem, not as Pixeltier does, not in time, or not at all.

    `status` is the answer's, 0 without one. `type` is the problem's (docs/api.md), or one of the client's own:
    `unreachable`, `deadline-exceeded` (also the service's), `unexpected-answer` (something between answers instead,
    or breaks the answer), `http-error` (a failure without a problem document), `invalid-url`, `invalid-key`.
    """

    def __init__(self, status: int, type_: str, detail: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(f"{type_} ({status}): {detail}" if status else f"{type_}: {detail}")
        self.status = status
        self.type = type_
        self.detail = detail
        self.document = document or {}
