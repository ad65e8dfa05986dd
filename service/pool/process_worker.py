"""A worker that is a spawned process: its crash costs a job, never the service.

Jobs and answers cross a socket pair that the event loop itself reads and writes. A ProcessPoolExecutor of one worker
does the same with two more threads, and every hand-over between threads costs more than the pipe (docs/service.md).
"""

import asyncio
import contextlib
import multiprocessing
import signal
import socket
from collections import deque
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import Any, cast

from pixeltier.service.work.messages import Answer, Cancel, Job, Progress, Ready
from pixeltier.service.work.pool import NotStartedError, WorkerDiedError
from pixeltier.service.worker import frames, startup

OFF_LOOP_BYTES = 1024 * 1024
"""Frames from this size on are unpacked in a thread: copying them would hold up every other request."""

REAP_S = 10.0


class ProcessWorker:
    """One worker process and the pipe to it."""

    def __init__(self, name: str, spec: startup.Spec) -> None:
        self.name = name
        self._spec = spec
        self._process: SpawnProcess | None = None
        self._pipe: _Pipe | None = None
        self._callback: Callable[[], None] | None = None
        self._progress: Callable[[int, int], None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process number."""
        return None if self._process is None else self._process.pid

    async def start(self) -> Ready:
        """Spawn the process, then load and warm the engine in it."""
        self._abandon()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # fork would copy the event loop's threads' locks
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=startup.main, args=(theirs, self._spec), name=self.name, daemon=True)
        try:
            # Spawning blocks for some milliseconds, which the event loop has better use for.
            await asyncio.to_thread(process.start)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(
            lambda: _Pipe(self._lost, self._progressed), sock=ours
        )
        self._pipe = protocol
        try:
            (first,) = await protocol.next_frame()
        except WorkerDiedError:
            await asyncio.to_thread(process.join, REAP_S)
            raise NotStartedError(_how_it_ended(process.exitcode)) from None
        if isinstance(first, Ready):
            return first
        error = NotStartedError(first.reason)
        error.add_note(first.traceback)
        raise error

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        """Send the jobs through the pipe."""
        if self._pipe is None:
            raise WorkerDiedError
        return cast("asyncio.Future[list[Answer]]", self._pipe.exchange(jobs))

    def cancel(self, answer: asyncio.Future[list[Answer]]) -> None:
        """Tell the worker, which looks between two tiles."""
        if self._pipe is not None:
            self._pipe.cancel(answer)

    def on_progress(self, callback: Callable[[int, int], None]) -> None:
        """Remember whom to tell."""
        self._progress = callback

    def on_death(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell."""
        self._callback = callback

    def kill(self) -> None:
        """SIGKILL: a hung process may not listen to less."""
        self._abandon()

    async def stop(self, timeout_s: float) -> None:
        """Close the pipe, wait for the process, kill it after the timeout."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is None:
            return
        if pipe is not None:
            pipe.close()
        await asyncio.to_thread(process.join, timeout_s)
        if process.is_alive():
            process.kill()
            await asyncio.to_thread(process.join, REAP_S)
        with contextlib.suppress(ValueError):  # it survived even that; the kernel will have it in the end
            process.close()

    def _abandon(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            reaping = asyncio.get_running_loop().run_in_executor(None, _reap, process)
            reaping.add_done_callback(_seen)

    def _lost(self, pipe: "_Pipe") -> None:
        if pipe is self._pipe and self._callback is not None:
            self._callback()

    def _progressed(self, progress: Progress) -> None:
        if self._progress is not None:
            self._progress(progress.done, progress.total)


def _how_it_ended(status: int | None) -> str:
    """What the exit status of a worker that said nothing tells; None: it has hung up and still runs."""
    if status is None or status >= 0:
        return f"the worker process ended with status {status} while starting; its own message, if any, is in the log"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    memory = (
        "; usually too little memory: use fewer workers or raise the limit"
        if -status == signal.SIGKILL
        else ""
    )
    return f"the worker process was ended by {name} while starting{memory}"


def _reap(process: SpawnProcess) -> None:
    process.join(REAP_S)
    process.close()


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that nobody asks for is nobody's surprise."""
    if not future.cancelled():
        future.exception()


class _Pipe(asyncio.BufferedProtocol):
    """Frames from the worker, in the order of the jobs; each but a progress resolves the future that waits longest."""

    def __init__(self, lost: Callable[["_Pipe"], None], progressed: Callable[[Progress], None]) -> None:
        self._lost = lost
        self._progressed = progressed
        self._exchanges = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[list[Any]]] = deque()
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._head_read = self._lengths_read = False
        self._sizes: list[int] = []
        self._parts: list[bytearray] = []
        self._left = memoryview(bytearray())
        self._begin()

    def next_frame(self) -> asyncio.Future[list[Any]]:
        """What the worker sends next, after what is waited for already; raises WorkerDiedError where it dies."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        future.add_done_callback(_seen)  # a batch behind one that crashed is never asked for its own error
        if self._gone:
            future.set_exception(WorkerDiedError("the worker is gone"))
        else:
            self._waiting.append(future)
        return future

    def exchange(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Any]]:
        """Send jobs; their answers are the next frame that nobody waits for yet."""
        answer = self.next_frame()
        self._exchanges += 1
        self._send(frames.pack(jobs))
        return answer

    def cancel(self, answer: asyncio.Future[list[Any]]) -> None:
        """Tell the worker that nobody waits for this answer, unless it has come."""
        if answer in self._waiting:
            behind = len(self._waiting) - self._waiting.index(answer) - 1
            self._send(frames.pack([Cancel(self._exchanges - behind)]))

    def _send(self, buffers: list[frames.Buffer]) -> None:
        """Send a frame; what the socket does not take at once follows as it does."""
        if self._transport is not None and not self._gone:
            for buffer in buffers:
                self._transport.write(buffer)

    def close(self) -> None:
        """Hang up; the worker ends when it reads that."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.BufferedProtocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The rest of the part that is being read."""
        del sizehint
        return self._left

    def buffer_updated(self, nbytes: int) -> None:
        """Go on to the next part where this one is complete."""
        self._left = self._left[nbytes:]
        while not self._left:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker died, or we hung up: nobody waits for it any longer."""
        del exc
        self._gone = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(WorkerDiedError("the worker is gone"))
        self._lost(self)

    # ---- frames ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._head_read = self._lengths_read = False
        self._sizes, self._parts = [], []
        self._read(frames.HEAD.size)

    def _read(self, size: int) -> None:
        self._parts.append(bytearray(size))
        self._left = memoryview(self._parts[-1])

    def _complete(self) -> None:
        """A part is complete: the head, the lengths of the bodies, the pickle, or a body."""
        if not self._head_read:
            self._head_read = True
            length, count = frames.HEAD.unpack(self._parts.pop())
            self._sizes = [length]
            self._read(count * frames.LENGTH.size)
            return
        if not self._lengths_read:
            self._lengths_read = True
            self._sizes += [size for (size,) in frames.LENGTH.iter_unpack(self._parts.pop())]
        if len(self._parts) < len(self._sizes):
            self._read(self._sizes[len(self._parts)])
            return
        pickled, *bodies = self._parts
        total = sum(self._sizes)
        self._begin()
        if total < OFF_LOOP_BYTES:
            items = frames.unpack(pickled, bodies)
            if isinstance(items[0], Progress):
                self._progressed(items[0])
            else:
                _resolve(self._waiting.popleft(), items)
            return
        future = self._waiting.popleft()
        unpacking = self._loop.run_in_executor(None, frames.unpack, pickled, bodies)
        unpacking.add_done_callback(lambda done: _resolve(future, done.result()))


def _resolve(future: asyncio.Future[list[Any]], items: list[Any]) -> None:
    if not future.done():
        future.set_result(items)
