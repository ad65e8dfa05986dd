"""Enlargements of other sizes than four times."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.images import encoded, opened, png
from tests.integration.fakes import fake_app, running

IMAGE = png(20, 10)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("", (80, 40)),
        ("scale=4", (80, 40)),
        ("scale=3", (60, 30)),
        ("scale=2", (40, 20)),
        ("width=50", (50, 25)),
        ("height=33", (66, 33)),
        ("width=7", (7, 4)),
        ("width=80&height=11", (80, 11)),
        ("width=1", (1, 1)),
    ],
)
async def test_the_result_has_the_size_that_was_asked_for(
    client: httpx.AsyncClient, query: str, size: tuple[int, int]
) -> None:
    answer = await client.post(f"/v1/super-resolve?{query}", content=IMAGE)
    assert answer.status_code == 200, answer.text
    assert opened(answer.content).size == size
    whole = await client.post("/v1/super-resolve", content=IMAGE)
    assert answer.headers["x-macs-executed"] == whole.headers["x-macs-executed"]


@pytest.mark.parametrize(
    ("query", "type_", "said"),
    [
        ("scale=5", "validation", "query.scale"),
        ("scale=1", "validation", "query.scale"),
        ("scale=two", "validation", "query.scale"),
        ("scale=2&width=9", "validation", "not both"),
        ("width=0", "validation", "query.width"),
        ("width=81", "output-too-large", "at most 80x40"),
        ("height=41", "output-too-large", "at most 80x40"),
        ("width=80&height=41", "output-too-large", "at most 80x40"),
    ],
)
async def test_sizes_that_there_are_not(client: httpx.AsyncClient, query: str, type_: str, said: str) -> None:
    answer = await client.post(f"/v1/super-resolve?{query}", content=IMAGE)
    assert (answer.status_code, answer.json()["type"]) == (413 if "large" in type_ else 422, type_)
    assert said in answer.json()["detail"]


async def test_by_header_and_form(client: httpx.AsyncClient) -> None:
    by_form: dict[str, Any] = {"data": {"scale": "2"}, "files": {"file": IMAGE}}
    by_header: dict[str, Any] = {"headers": {"X-Scale": "2"}, "content": IMAGE}
    for options in (by_form, by_header):
        answer = await client.post("/v1/super-resolve", **options)
        assert opened(answer.content).size == (40, 20)


async def test_a_reduction_is_antialiased_and_keeps_alpha(client: httpx.AsyncClient) -> None:
    """Columns of one pixel, black and white, become gray: nothing is left out."""
    columns = np.zeros((8, 8, 4), np.uint8)
    columns[:, ::2, :3] = 255
    columns[..., 3] = 128
    image = encoded(Image.fromarray(columns))
    answer = await client.post("/v1/super-resolve?width=4", content=image)
    found = np.asarray(opened(answer.content))
    assert found.shape == (4, 4, 4)
    assert (abs(found[..., 3].astype(int) - 128) <= 1).all()
    assert 90 < found[1:-1, 1:-1, :3].mean() < 165
