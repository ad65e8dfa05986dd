"""What the operating system must allow: threads, open files, address space. Checked before anything starts.

Beyond these limits libraries below us abort without a word, or a worker dies again and again.
"""

import threading

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

FRONT_THREADS = 12
"""Of the event loop's own pool (libuv's four), of what it hands to threads, and the process that tracks resources."""

FRONT_FILES = 48
"""What the front process holds open without a client, and room for a few of them."""

WORKER_FILES = 4

LEAST_ADDRESS_SPACE = 512 * 2**20
"""Bytes below which a worker cannot load torch: with one thread it maps some 800 MB."""

WANTED_FILES = 65536

_PROBE_STACK = 64 * 1024


class ProcessLimitError(ValueError):
    """The system allows this process too little; the message says which limit and how to raise it."""


def check(slots: int, threads: int) -> None:
    """Raise what may be raised and refuse what would not suffice for so many workers of so many threads each.

    Raises:
        ProcessLimitError: too few threads, open files or bytes of address space.
    """
    if resource is not None:
        _check_files(FRONT_FILES + WORKER_FILES * slots)
        _check_address_space()
    _check_threads(FRONT_THREADS + slots * (threads + 2))


def _check_files(needed: int) -> None:
    """Raise the soft limit of open files towards the hard one: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise ProcessLimitError(
            f"this process may hold {soft} files open and needs {needed} before the first client comes: "
            "raise ulimit -n (systemd: LimitNOFILE=, Docker: --ulimit nofile=)"
        )


def _check_address_space() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < LEAST_ADDRESS_SPACE:
        raise ProcessLimitError(
            f"a process may map {soft // 2**20} MiB and a worker needs {LEAST_ADDRESS_SPACE // 2**20} MiB or "
            "more: raise ulimit -v (systemd: LimitAS=), and limit memory with a control group instead"
        )


def _check_threads(needed: int) -> None:
    """Start as many threads as the service will have (a process counts as one), and end them."""
    gate = threading.Event()
    started: list[threading.Thread] = []
    stack = threading.stack_size(_PROBE_STACK)  # a limit of the address space is not what is tried here
    try:
        for _ in range(needed):
            thread = threading.Thread(target=gate.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        raise ProcessLimitError(
            f"the system lets this process start {len(started)} more threads or processes and it needs {needed}"
            f"{_allowed()}: raise ulimit -u (systemd: TasksMax=, LimitNPROC=; Docker: --pids-limit), "
            "or lower workers and threads"
        ) from error
    finally:
        threading.stack_size(stack)
        gate.set()
        for thread in started:
            thread.join()


def _allowed() -> str:
    if resource is None or not hasattr(resource, "RLIMIT_NPROC"):
        return ""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return (
        ""
        if soft == resource.RLIM_INFINITY
        else f" (ulimit -u is {soft}, all of the user's processes together)"
    )
