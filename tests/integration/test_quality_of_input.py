"""Which weights enlarge an image: as the file says, or as the request does; the answer says which did."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.images import photo
from tests.integration.fakes import FakeEngine, fake_app, running

HEADER = "x-quality-of-input"


def _file(format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    photo(24, 20).save(file, format_, **options)
    return file.getvalue()


def _brightness(body: bytes) -> float:
    with Image.open(io.BytesIO(body)) as image:
        return float(np.asarray(image.convert("RGB")).mean())


@pytest.mark.parametrize(
    ("asked", "body", "used"),
    [
        ("", _file("JPEG", quality=60), "compressed"),
        ("", _file("PNG"), "clean"),
        ("?quality_of_input=auto", _file("WEBP", quality=60), "compressed"),
        ("?quality_of_input=clean", _file("JPEG", quality=60), "clean"),
        ("?quality_of_input=compressed", _file("PNG"), "compressed"),
    ],
)
async def test_the_answer_says_what_its_weights_are_made_for(asked: str, body: bytes, used: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.post(f"/v1/super-resolve{asked}", content=body)
        assert answer.status_code == 200
        assert answer.headers[HEADER] == used
        with Image.open(io.BytesIO(body)) as image:
            full = float(np.asarray(image.convert("RGB")).mean())
        darker = full - _brightness(answer.content)
        assert darker == pytest.approx(12 if used == "compressed" else 0, abs=3)


async def test_every_way_of_asking_knows_it() -> None:
    body = _file("PNG")
    async with running(fake_app()) as client:
        by_header = await client.post(
            "/v1/super-resolve", content=body, headers={"x-quality-of-input": "compressed"}
        )
        assert by_header.headers[HEADER] == "compressed"
        by_form = await client.post(
            "/v1/super-resolve", files={"file": body}, data={"quality_of_input": "compressed"}
        )
        assert by_form.headers[HEADER] == "compressed"
        as_json = await client.post("/v1/super-resolve?include=importance", content=_file("JPEG", quality=50))
        assert as_json.json()["quality_of_input"] == "compressed"
        several = await client.post(
            "/v1/super-resolve",
            files=[("file", _file("JPEG", quality=50)), ("file", body)],
            headers={"accept": "application/json"},
        )
        used = [one["result"]["quality_of_input"] for one in several.json()["images"]]
        assert used == ["compressed", "clean"]
        wrong = await client.post("/v1/super-resolve?quality_of_input=bad", content=body)
        assert wrong.status_code == 422
        assert "quality_of_input" in wrong.json()["detail"]


async def test_without_weights_for_it_the_others_are_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "knows_compressed", False)
    async with running(fake_app()) as client:
        answer = await client.post(
            "/v1/super-resolve?quality_of_input=compressed", content=_file("JPEG", quality=50)
        )
        assert answer.headers[HEADER] == "clean"
