"""What is taken out of log lines, and what stays readable."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.telemetry import logs, redaction
from pixeltier.service.telemetry.redaction import REDACTED, clean, redact


@pytest.fixture(autouse=True)
def _no_known_secrets() -> Iterator[None]:
    known = set(redaction._known_secrets)
    yield
    redaction._known_secrets.clear()
    redaction._known_secrets.update(known)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/v1/classify?token=S3CRET&top_k=1", "/v1/classify?token=[redacted]&top_k=1"),
        ("GET /x?api_key=S3CRET", "GET /x?api_key=[redacted]"),
        ("X-Api-Key: S3CRET", "X-Api-Key: [redacted]"),
        ("Authorization: Bearer S3CRET.abc", "Authorization: [redacted]"),
        ("authorization=Basic S3CRET==", "authorization=[redacted]"),
        ("[(b'authorization', b'Bearer S3CRET')]", "[(b'authorization', b'[redacted]')]"),
        ("{'Authorization': 'S3CRET'}", "{'Authorization': '[redacted]'}"),
        ("bearer%20S3CRET", "bearer%20[redacted]"),
        ("the key pxt_S3CRETS3CRET is unknown", "the key [redacted] is unknown"),
        ('"password": "S3CRET"', '"password": "[redacted]"'),
    ],
)
def test_secrets_go_wherever_they_stand(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redaction.suspicious(text)


@pytest.mark.parametrize(
    "text",
    ["the tiers are exact, fast", "5 tokens left", "admin_token_file /etc/token", "unauthorized", "basic"],
)
def test_plain_text_stays(text: str) -> None:
    assert redact(text) == text


def test_fields_are_cleaned_to_any_depth() -> None:
    found = clean(
        {
            "headers": [(b"authorization", b"S3CRET"), ("host", "a")],
            "configuration": {"admin_token": "S3CRET", "admin_token_file": "/etc/token", "port": 8000},
            "error": ValueError("Bearer S3CRET"),
            "cookie": "S3CRET",
            "token": None,
            "ms": {"total": 1.5},
        }
    )
    assert "S3CRET" not in json.dumps(found)
    assert found["configuration"] == {
        "admin_token": REDACTED,
        "admin_token_file": "/etc/token",
        "port": 8000,
    }
    assert found["ms"] == {"total": 1.5}
    assert found["token"] is None


@given(st.text(st.characters(codec="utf-8"), min_size=4))
def test_a_known_secret_is_never_logged(secret: str) -> None:
    """Whatever characters it is made of, in either format."""
    if secret in REDACTED or any(secret in word for word in ("pixeltier.test", "level", "event", "time")):
        return
    redaction.conceal(secret)
    try:
        for formatter in (logs.JsonFormatter(), logs.TerminalFormatter()):
            record = logging.LogRecord("t", logging.INFO, "", 0, "%s", (secret,), None)
            record.__dict__["field"] = secret
            line = formatter.format(record)
            shown = json.loads(line) if isinstance(formatter, logs.JsonFormatter) else None
            if shown is not None:
                assert shown["event"] == REDACTED
                assert shown["field"] == REDACTED
            else:
                assert line.count(REDACTED) == 2
    finally:
        redaction._known_secrets.clear()


def test_one_line_of_json_whatever_clients_send() -> None:
    stream = io.StringIO()
    logger = logging.Logger("pixeltier.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger.addHandler(handler)
    logger.info("request", extra={"path": '/a\n{"level": "error"}\r\u2028"', "token": "S3CRET"})
    (line,) = stream.getvalue().rstrip("\n").split("\n")
    assert json.loads(line)["path"] == '/a\n{"level": "error"}\r\u2028"'
    assert json.loads(line)["token"] == REDACTED
