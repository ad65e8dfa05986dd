"""The admin API of a service without real models, and calls of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.integration.fakes import fake_app, running
from tests.tier_table import tiers_file

TOKEN = "alice-has-a-long-token"
TIERS = "/admin/v1/tiers"
FAST = {"tiers": {"fast": {"thresholds": {"classify": 0.6}}}}


@asynccontextmanager
async def desk(tmp_path: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service with an admin API, and a client that has the token."""
    tokens = tmp_path / "tokens"
    if not tokens.exists():
        tokens.write_text(f"# who\n\nalice:{TOKEN}\nbob-without-a-name-0123\n")
    files = {"admin_token_file": tokens, "state_dir": tmp_path / "state", "tiers_file": tiers_file(tmp_path)}
    settings = {**files, **settings}
    async with running(fake_app(**settings)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        client.headers["x-change-reason"] = "a test"
        yield client


async def patch(
    client: httpx.AsyncClient, body: Any, version: int | str = "*", **headers: str
) -> httpx.Response:
    tag = version if version == "*" else f'"{version}"'
    return await client.patch(TIERS, json=body, headers={"if-match": str(tag), **headers})


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"]


def noise(width: int, height: int, seed: int) -> Image.Image:
    """A picture whose importance spreads widely."""
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
