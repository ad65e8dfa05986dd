"""The latency model finds the plane behind noisy times, follows it when it moves, and stays sane."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixeltier.service.pool.latency import LatencyModel
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Work

DENSE_PER_PIXEL = 2_218_176


def work(macs: float, pixels: int, least: float = 0.0) -> Work:
    curve = (int(macs),) * 20 + (int(least or macs),)
    return Work(
        threshold=0.5,
        macs_dense=int(2 * macs),
        macs_executed=int(macs),
        active_share=0.5,
        macs_curve=curve,
        active_curve=(0,) * len(curve),
        importance_ms=0.0,
        infer_ms=0.0,
        pixels=pixels,
        decode_ms=0.0,
        encode_ms=0.0,
    )


def teach(
    model: LatencyModel, plane: tuple[float, float, float], jobs: int, noise: float, seed: int = 1
) -> None:
    chance = random.Random(seed)
    for _ in range(jobs):
        pixels = chance.choice([64**2, 128**2, 256**2, 512**2])
        macs = pixels * DENSE_PER_PIXEL * chance.uniform(0.1, 1.0)
        took = plane[0] + plane[1] * macs / 1e9 + plane[2] * pixels / 1e6
        model.learn(Task.SUPER_RESOLVE, [work(macs, pixels)], took * chance.uniform(1 - noise, 1 + noise))


@pytest.mark.parametrize("plane", [(2.0, 4.0, 60.0), (0.0, 30.0, 0.0), (15.0, 0.5, 300.0)])
def test_predictions_come_near(plane: tuple[float, float, float]) -> None:
    model = LatencyModel()
    teach(model, plane, 300, noise=0.1)
    for pixels in (64**2, 300**2):
        for share in (0.1, 0.5, 1.0):
            macs = pixels * DENSE_PER_PIXEL * share
            truth = plane[0] + plane[1] * macs / 1e9 + plane[2] * pixels / 1e6
            assert model.predict(Task.SUPER_RESOLVE, macs, pixels) == pytest.approx(truth, rel=0.12)


def test_a_slower_machine_is_noticed() -> None:
    model = LatencyModel()
    teach(model, (2.0, 4.0, 60.0), 200, noise=0.05)
    before = model.predict(Task.SUPER_RESOLVE, 20e9, 128**2)
    teach(model, (4.0, 8.0, 120.0), 200, noise=0.05, seed=2)
    assert model.predict(Task.SUPER_RESOLVE, 20e9, 128**2) == pytest.approx(2 * before, rel=0.1)


def test_macs_within_a_time_take_that_time_less_the_usual_error() -> None:
    model = LatencyModel()
    teach(model, (2.0, 4.0, 60.0), 300, noise=0.0)
    macs = model.macs_within(Task.SUPER_RESOLVE, 100.0, 128**2)
    assert macs is not None
    assert model.predict(Task.SUPER_RESOLVE, macs, 128**2) == pytest.approx(100.0, rel=0.02)
    teach(model, (2.0, 4.0, 60.0), 300, noise=0.3)
    cautious = model.macs_within(Task.SUPER_RESOLVE, 100.0, 128**2)
    assert cautious is not None
    assert cautious < 0.95 * macs
    assert model.macs_within(Task.SUPER_RESOLVE, 0.1, 128**2) == 0


def test_tasks_do_not_mix() -> None:
    model = LatencyModel()
    before = model.predict(Task.CLASSIFY, 1e9, 10_000)
    teach(model, (50.0, 40.0, 600.0), 50, noise=0.0)
    assert model.predict(Task.CLASSIFY, 1e9, 10_000) == before


def test_the_least_is_what_the_cheapest_image_took() -> None:
    model = LatencyModel()
    assert model.least(Task.SUPER_RESOLVE, 128**2) < model.predict(Task.SUPER_RESOLVE, 5e9, 128**2)
    for least in (2e8, 1e8, 3e8):
        model.learn(Task.SUPER_RESOLVE, [work(5e9, 10_000, least)], 20.0)
    wanted = model.predict(Task.SUPER_RESOLVE, 2e8, 20_000)  # twice the pixels, twice the least MACs
    assert model.least(Task.SUPER_RESOLVE, 20_000) == pytest.approx(wanted)


def test_doubt_leads_back_to_the_first_guess() -> None:
    model = LatencyModel()
    first = model.least(Task.CLASSIFY, 10_000)
    for _ in range(50):
        model.learn(Task.CLASSIFY, [work(1e9, 10_000)], 5000.0)
    assert model.least(Task.CLASSIFY, 10_000) > 100 * first
    for _ in range(150):
        model.doubt(Task.CLASSIFY)
    assert model.least(Task.CLASSIFY, 10_000) < 10 * first


@settings(max_examples=100, deadline=None)
@given(
    seen=st.lists(
        st.tuples(st.floats(1e3, 1e13), st.integers(1, 50_000_000), st.floats(0.001, 1e6)), max_size=60
    ),
    asked=st.tuples(st.floats(0, 1e13), st.integers(1, 50_000_000), st.floats(0.01, 1e6)),
)
def test_any_history_gives_a_sane_model(
    seen: list[tuple[float, int, float]], asked: tuple[float, int, float]
) -> None:
    model = LatencyModel()
    for macs, pixels, took in seen:
        model.learn(Task.CLASSIFY, [work(macs, pixels)], took)
    macs, pixels, ms = asked
    assert 0 < model.predict(Task.CLASSIFY, macs, pixels) < float("inf")
    assert model.predict(Task.CLASSIFY, 2 * macs, pixels) >= model.predict(Task.CLASSIFY, macs, pixels)
    found = model.macs_within(Task.CLASSIFY, ms, pixels)
    assert found is None or found >= 0
