"""A small HTTP/1.1 client for load tests: keep-alive connections on asyncio, a tenth of a general client's cost.

What generates the load shares the machine with what is measured, so it has to be cheap.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes
    ms: float


class Connection:
    """One connection, one request at a time; opened again when the server closed it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """Send a request; `headers` are whole lines that end in CRLF."""
        started = time.perf_counter()
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**26)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        )
        self._writer.write(head.encode() + body)
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                found[name.lower()] = value.strip()
        content = await self._reader.readexactly(int(found.get("content-length", "0")))
        if found.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status.split(" ")[1]), found, content, (time.perf_counter() - started) * 1000)

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@dataclass
class Outcome:
    """Of a run: answers by status, milliseconds of the good ones, the run's seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def add(self, answer: Answer) -> None:
        """Count an answer; its body is not kept."""
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.ms.append(answer.ms)
            self.answers.append(Answer(answer.status, answer.headers, b"", answer.ms))


async def closed_loop(
    url: str, path: str, body: bytes, clients: int, seconds: float, headers: str = ""
) -> Outcome:
    """As many clients as given, each sending again as soon as it has its answer; the first second is not counted."""
    outcome = Outcome()
    warm = time.perf_counter() + 1.0
    end = warm + seconds

    async def loop() -> None:
        connection = Connection(url)
        while time.perf_counter() < end:
            answer = await connection.request("POST", path, body, headers)
            if time.perf_counter() > warm:
                outcome.add(answer)
        connection.close()

    await asyncio.gather(*(loop() for _ in range(clients)))
    outcome.seconds = time.perf_counter() - warm
    return outcome


async def open_loop(
    url: str, path: str, body: bytes, rate: float, seconds: float, headers: str = ""
) -> Outcome:
    """Arrivals at even distances, whatever the service does; connections are reused as they fall free."""
    outcome = Outcome()
    free: list[Connection] = []

    async def one() -> None:
        connection = free.pop() if free else Connection(url)
        outcome.add(await connection.request("POST", path, body, headers))
        free.append(connection)

    begun = time.perf_counter()
    jobs = []
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begun + n / rate - time.perf_counter()))
        jobs.append(asyncio.create_task(one()))
    sent = time.perf_counter() - begun
    await asyncio.gather(*jobs)
    outcome.seconds = max(sent, seconds)
    for connection in free:
        connection.close()
    return outcome
