"""Workers never outlive the front process, however it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import asyncio, sys
from tests.integration.fakes import fake_app, running

async def main():
    app = fake_app(pool="process")
    async with running(app):
        print(app.state.context.pool.report().workers[0].pid, flush=True)
        await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_killed_front_process_takes_its_slots_along(tmp_path: Path) -> None:
    script = tmp_path / "front.py"
    script.write_text(CODE)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root}
    ) as front:
        assert front.stdout is not None
        worker = Path("/proc") / front.stdout.readline().strip()
        assert worker.exists()
        front.send_signal(signal.SIGKILL)
    end = time.monotonic() + 15
    while worker.exists():
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.05)
