"""Images a second: so many in one request, beside as many requests at once and one after the other.

    python -m benchmarks.several --tier balanced --images 16 --seconds 20

The three ways take turns against one service, so that none has a quieter machine. Printed are medians over the rounds.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx

from benchmarks.service import image, service

Way = Callable[[httpx.AsyncClient, str, bytes, int], Awaitable[None]]


async def one_request(client: httpx.AsyncClient, route: str, body: bytes, images: int) -> None:
    """All images as parts of a form."""
    answer = await client.post(route, files=[("file", ("image.jpg", body))] * images)
    answer.raise_for_status()
    if any(one["status"] != 200 for one in answer.json()["images"]):
        raise RuntimeError(answer.text[:500])


async def requests_at_once(client: httpx.AsyncClient, route: str, body: bytes, images: int) -> None:
    """A request an image, all in flight."""
    for answer in await asyncio.gather(*(client.post(route, content=body) for _ in range(images))):
        answer.raise_for_status()


async def one_after_the_other(client: httpx.AsyncClient, route: str, body: bytes, images: int) -> None:
    """A request an image, each after the answer to the one before."""
    for _ in range(images):
        (await client.post(route, content=body)).raise_for_status()


WAYS: dict[str, Way] = {
    "one request": one_request,
    "requests at once": requests_at_once,
    "one after the other": one_after_the_other,
}


async def measure(url: str, route: str, body: bytes, images: int, seconds: float) -> dict[str, list[float]]:
    """Images a second of each way, a value a round."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        for way in WAYS.values():  # uncounted: connections, first calls
            await way(client, route, body, images)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, way in WAYS.items():
                started = time.monotonic()
                await way(client, route, body, images)
                found[name].append(images / (time.monotonic() - started))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running service; else one is started")
    parser.add_argument("--tier", default="balanced")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    print("| way | images a second |\n|---|---|")
    with service(options.url) as url:
        route = f"/v1/classify?tier={options.tier}"
        found = asyncio.run(measure(url, route, image("classify"), options.images, options.seconds))
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.1f} |")


if __name__ == "__main__":
    main()
