"""CPU quotas and the workers that fit them."""

from pathlib import Path

import pytest

from pixeltier.service.configuration import cpus


def test_v2_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpus.cpu_quota(tmp_path) == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpus.cpu_quota(tmp_path) >= 1


def test_v1_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("75000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpus.cpu_quota(tmp_path) == 0.75
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    assert cpus.cpu_quota(tmp_path) >= 1


def test_nonsense_is_no_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("?")
    assert cpus.cpu_quota(tmp_path) >= 1


@pytest.mark.parametrize(
    ("slots", "threads", "preset", "quota", "expected"),
    [
        (0, 0, "throughput", 8, (8, 1)),
        (0, 0, "latency", 8, (1, 8)),
        (0, 0, "throughput", 0.5, (1, 1)),
        (0, 2, "throughput", 8, (4, 2)),
        (3, 0, "latency", 8, (3, 2)),
        (2, 4, "latency", 8, (2, 4)),
        (2, 1, "latency", 1.5, (2, 1)),
    ],
)
def test_shapes(slots: int, threads: int, preset: str, quota: float, expected: tuple[int, int]) -> None:
    found = cpus.shape(slots, threads, preset=preset, quota=quota)  # type: ignore[arg-type]
    assert (found.slots, found.threads) == expected


def test_too_many_threads_are_refused() -> None:
    with pytest.raises(
        cpus.QuotaExceededError, match="3 workers of 2 threads need 6 CPUs and the quota is 4"
    ):
        cpus.shape(3, 2, preset="throughput", quota=4)
    with pytest.raises(cpus.QuotaExceededError):
        cpus.shape(5, 0, preset="throughput", quota=4)
