"""One JSON line an event; on a terminal the same facts in colour. No secret passes."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pixeltier.service.telemetry import redaction

LogFormat = Literal["auto", "json", "text"]

_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
    "color_message",
}

_COLOURS = {
    "DEBUG": "\x1b[2m",
    "INFO": "\x1b[32m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[41m",
}
_END = "\x1b[0m"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _PLAIN}


class JsonFormatter(logging.Formatter):
    """One line of JSON, whatever the message holds: client text can never break a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= _extra(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str, ensure_ascii=False)
        return json.dumps(redaction.clean(line), ensure_ascii=False) if redaction.suspicious(text) else text


class TerminalFormatter(logging.Formatter):
    """For eyes: time, level in colour, event, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        extra = redaction.clean(_extra(record))
        facts = " ".join(f"\x1b[2m{name}={_END}{_shown(value)}" for name, value in extra.items())
        colour = _COLOURS.get(record.levelname, "")
        event = redaction.redact(record.getMessage())
        line = f"{time} {colour}{record.levelname.lower():7}{_END} {event} {facts}".rstrip()
        traceback = self.formatException(record.exc_info) if record.exc_info else ""
        return line + ("\n" + redaction.redact(traceback) if traceback else "")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}:{item}" for key, item in value.items())
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def configure(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process, uvicorn's and Python's warnings too, to one stream in one format."""
    out = sys.stderr if stream is None else stream
    terminal = log_format == "text" or (log_format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TerminalFormatter() if terminal else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Libraries below us log at info what a request's own line says already.
    for name in ("httpx", "httpcore", "PIL", "python_multipart", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
