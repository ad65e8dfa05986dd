"""Answers that come later: a job's events are followed until it is over, then its result is fetched."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx

from pixeltier.service.connection import answers
from pixeltier.service.connection.deadline import Attempts
from pixeltier.service.connection.errors import UNREACHABLE, PixeltierError
from pixeltier.service.connection.exchange import Connection

Progress = Callable[[int, int], None]
"""Told how many tiles of a large image are done, of how many; from another thread than the caller's, maybe."""

PREFER = "respond-async, wait=1"
"""What takes no longer than a second needs no bar."""

ACCEPTED = 202

ABANDON_S = 2.0


class Following:
    """One request that may be answered later."""

    def __init__(self, connection: Connection, attempts: Attempts, progress: Progress) -> None:
        self._connection = connection
        self._attempts = attempts
        self._progress = progress
        self._job: httpx.URL | None = None

    async def result(self, response: httpx.Response) -> httpx.Response:
        """The answer to the request whose first answer this is; raises PixeltierError."""
        if response.status_code != ACCEPTED:
            return response
        self._job = _location(response)
        while not await self._over():
            pause = self._attempts.pause_s(None)
            if pause is None:
                raise PixeltierError(0, UNREACHABLE, f"{self._job}: the job's events break off")
            await asyncio.sleep(pause)
        found = await self._connection.ask("GET", f"{self._job}/result", self._attempts, {})
        await self.abandon()  # fetched, or failed: the service need not keep it
        return answers.checked(found)

    async def abandon(self) -> None:
        """Have the service forget the job, where there is one; what fails at that is nobody's matter."""
        job, self._job = self._job, None
        if job is not None:
            with contextlib.suppress(PixeltierError):
                await self._connection.send("DELETE", str(job), Attempts(ABANDON_S, retries=0))

    async def _over(self) -> bool:
        """Follow the events; whether the job is over, or they only broke off."""
        try:
            async with contextlib.aclosing(self._events()) as events:
                async for name, document in events:  # what the callback raises is not the connection's
                    self._tell(document)
                    if name == "over":
                        return True
        except PixeltierError as error:
            if error.type != UNREACHABLE:
                raise
        return False

    async def _events(self) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
        """Name and data of each event (HTML, 9.2); raises PixeltierError."""
        async with self._connection.stream("GET", f"{self._job}/events", self._attempts) as stream:
            if not stream.is_success:
                await stream.aread()
                answers.checked(stream)
            name = ""
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def _tell(self, document: dict[str, Any]) -> None:
        tiles = document.get("progress")
        if tiles is not None:
            self._progress(int(tiles["done"]), int(tiles["total"]))


def _location(response: httpx.Response) -> httpx.URL:
    """Where the job is, at the same service; raises PixeltierError."""
    asked = response.request.url
    found = asked.join(response.headers.get("Location", ""))
    if (found.scheme, found.netloc) != (asked.scheme, asked.netloc) or "/v1/jobs/" not in found.path:
        raise answers.unexpected(response)
    return found
