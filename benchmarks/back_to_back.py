"""What the workers could do if nothing were around them: their jobs done back to back, in processes of their own."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def measure(
    task: str, threshold: float, body: Path, *, processes: int, threads: int, seconds: float
) -> dict[str, Any]:
    """Run `processes` at once; jobs a second of all together, medians of the model's and the decoder's milliseconds."""
    command = [sys.executable, "-m", "benchmarks.back_to_back", task, str(threshold), str(body)]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=None) for _ in range(processes)
    ]
    try:
        for one in running:
            if one.stdout is None or one.stdout.readline().strip() != "warm":
                raise SystemExit("a back-to-back process did not start")
        for one in running:
            if one.stdin is not None:
                one.stdin.write("go\n")
                one.stdin.flush()
        found = [json.loads(one.stdout.readline()) for one in running if one.stdout is not None]
    finally:
        for one in running:
            one.kill()
            one.wait()
    return {
        "rate": sum(each["rate"] for each in found),
        "model_ms": statistics.median(each["model_ms"] for each in found),
        "job_ms": statistics.median(each["job_ms"] for each in found),
    }


def main() -> None:
    """One process: warm up, say so, wait for the word, work, report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("classify", "super-resolve"))
    parser.add_argument("threshold", type=float)
    parser.add_argument("body", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()

    from pixeltier.models.host_memory import keep_freed_memory
    from pixeltier.service.work.messages import (
        ClassifyAnswer,
        ClassifyJob,
        Job,
        SuperResolveAnswer,
        SuperResolveJob,
    )
    from pixeltier.service.worker import startup

    startup.prepare(spec := startup.Spec(threads=options.threads))
    keep_freed_memory()
    runner, _ = startup.open_runner(spec)
    body = options.body.read_bytes()
    job: Job
    if options.task == "classify":
        job = ClassifyJob(body=body, threshold=options.threshold, top_k=5, max_pixels=10**8)
    else:
        job = SuperResolveJob(
            body=body,
            threshold=options.threshold,
            format="png",
            quality=90,
            max_pixels=10**8,
            max_output_pixels=10**9,
        )

    def once() -> tuple[float, float]:
        started = time.perf_counter()
        (answer,) = runner.execute((job,))
        took = (time.perf_counter() - started) * 1000
        if not isinstance(answer, ClassifyAnswer | SuperResolveAnswer):
            raise SystemExit(f"the job failed: {answer}")
        return answer.work.importance_ms + answer.work.infer_ms, took

    for _ in range(20 if options.task == "classify" else 3):
        once()
    print("warm", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    seen = []
    while time.perf_counter() - begun < options.seconds:
        seen.append(once())
    lasted = time.perf_counter() - begun
    model, whole = (statistics.median(column) for column in zip(*seen, strict=True))
    print(json.dumps({"rate": len(seen) / lasted, "model_ms": model, "job_ms": whole}), flush=True)


if __name__ == "__main__":
    main()
