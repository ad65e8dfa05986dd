"""Which device each worker computes on, found without CUDA."""

from pathlib import Path

import pytest

from pixeltier.service.configuration import gpus
from pixeltier.service.configuration.settings import ConfigurationError, Settings, load
from pixeltier.service.pool.wiring import open_pool


def machine(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_gpus_are_counted_by_their_device_files(tmp_path):
    dev = machine(tmp_path, "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null")
    assert gpus.visible(dev, {}) == 2
    assert gpus.visible(dev, {"CUDA_VISIBLE_DEVICES": "1"}) == 1
    assert gpus.visible(dev, {"CUDA_VISIBLE_DEVICES": "0,1,-1"}) == 2
    assert gpus.visible(dev, {"CUDA_VISIBLE_DEVICES": "-1,0"}) == 0
    assert gpus.visible(dev, {"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert gpus.visible(dev, {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2,GPU-3"}) == 2


def test_no_device_files_are_no_gpus(tmp_path):
    assert gpus.visible(tmp_path, {"CUDA_VISIBLE_DEVICES": "0,1"}) == 0
    assert gpus.visible(machine(tmp_path, "dxg"), {}) == 1


@pytest.mark.parametrize(
    ("setting", "count", "built", "expected"),
    [
        ("cpu", 4, True, ["cpu"]),
        ("cuda", 2, True, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, True, ["cuda:1"]),
        ("auto", 2, True, ["auto:0", "auto:1"]),
        ("auto", 2, False, ["cpu"]),
        ("auto", 0, True, ["cpu"]),
    ],
)
def test_each_gpu_gets_a_worker(setting, count, built, expected):
    assert gpus.devices(setting, count, built) == expected


@pytest.mark.parametrize(("setting", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(setting, count):
    with pytest.raises(gpus.NoSuchDeviceError, match=f"device {setting} was asked for and {count} GPUs"):
        gpus.devices(setting, count)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "auto:1"])
def test_unknown_devices_are_refused(name, monkeypatch):
    monkeypatch.setenv("PIXELTIER_DEVICE", name)
    with pytest.raises(ConfigurationError, match="PIXELTIER_DEVICE"):
        load()


def test_slots_follow_the_gpus(monkeypatch):
    monkeypatch.setattr(gpus, "visible", lambda: 2)
    monkeypatch.setattr("pixeltier.service.configuration.cpus.cpu_quota", lambda: 8.0)
    settings = Settings(device="cuda")
    assert (settings.shape().slots, settings.shape().threads) == (2, 4)
    assert Settings(device="cuda:1").shape().slots == 1
    with pytest.raises(gpus.NoSuchDeviceError, match="3 workers need a GPU each"):
        Settings(device="cuda", slots=3).shape()


def test_every_worker_is_told_its_gpu(monkeypatch):
    monkeypatch.setattr(gpus, "visible", lambda: 2)
    monkeypatch.setattr("pixeltier.service.configuration.cpus.cpu_quota", lambda: 2.0)
    told = []

    class FakeWorker:
        def __init__(self, name, spec):
            told.append((name, spec.device, spec.threads, spec.gpu_memory_share))

    monkeypatch.setattr("pixeltier.service.pool.wiring.ProcessWorker", FakeWorker)
    monkeypatch.setattr("pixeltier.service.pool.wiring.Dispatcher", lambda *_: None)
    open_pool(Settings(device="cuda", gpu_memory_share=0.5), None)
    assert told == [("worker-0", "cuda:0", 1, 0.5), ("worker-1", "cuda:1", 1, 0.5)]


def test_thread_slots_would_bring_cuda_into_the_front_process():
    with pytest.raises(ValueError, match="GPUs need pool=process"):
        Settings(device="cuda", pool="thread")
