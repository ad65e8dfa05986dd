"""Which arithmetic both models get: forced, measured, or refused; and the base in int8."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixeltier.models import precision
from pixeltier.models.cards import Int8, ModelCard, load_card
from pixeltier.models.checkpoints import load_classification, load_super_resolution
from pixeltier.models.engine import Classifier
from pixeltier.models.measured_choice import Choice
from pixeltier.models.networks.classification import base_input
from pixeltier.models.precision import MOST_INT8_LOSS, classifier_arithmetic, resolver_arithmetic
from pixeltier.models.quantization import feature_ranges
from tests.unit.models.networks import as_images, photo_like

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos() -> Any:
    return np.stack([photo_like(224, 224, seed) for seed in range(6)])


@pytest.fixture(scope="module")
def card(weights: Path, photos: Any) -> ModelCard:
    """The card of `weights`, with ranges for int8 and a loss that is allowed."""
    model, plain = load_classification(weights)
    ranges = feature_ranges(model.base, [base_input(as_images(photos))])
    return plain.model_copy(update={"int8": Int8(ranges=ranges, top1_loss=0.001, loss_data="six photos")})


@pytest.fixture
def quickest(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the measurement says, by what is measured; the candidates are made and run all the same."""
    answers = {"classify refinement": "fp32", "classify base": "fp32", "super-resolve": "fp32"}

    def fastest(key: str, candidates: Any) -> Choice:
        runs = candidates()
        for run in runs.values():
            run()
        name = answers[key.split(" | ", maxsplit=1)[0]]
        return Choice(name, dict.fromkeys(runs, 1.0))

    monkeypatch.setattr(precision, "fastest", fastest)
    monkeypatch.setattr(precision, "cpu_isa", lambda: "avx512_bf16")
    return answers


@pytest.mark.parametrize("refinement", ["fp32", "bf16"])
@pytest.mark.parametrize("base", ["fp32", "int8"])
def test_auto_takes_what_is_measured_fastest(
    weights: Path, card: ModelCard, quickest: dict[str, str], refinement: str, base: str
) -> None:
    quickest |= {"classify refinement": refinement, "classify base": base, "super-resolve": refinement}
    model, _ = load_classification(weights)
    found = classifier_arithmetic(model, card, "auto", CPU)
    assert (found.dtype, found.int8_base) == (precision.DTYPES[refinement], base == "int8")
    assert set(found.measured["base"].milliseconds) == {"fp32", "int8"}
    assert set(found.measured["refinement"].milliseconds) == {"fp32", "bf16"}
    resolver = resolver_arithmetic(*load_super_resolution(weights), "auto", CPU)
    assert (resolver.dtype, resolver.int8_base) == (precision.DTYPES[refinement], False)


@pytest.mark.parametrize("loss", [None, MOST_INT8_LOSS + 0.001])
def test_auto_never_takes_int8_that_loses_too_much(
    weights: Path, card: ModelCard, quickest: dict[str, str], loss: float | None
) -> None:
    assert card.int8 is not None
    model, _ = load_classification(weights)
    quickest["classify base"] = "int8"
    for int8 in (None, card.int8.model_copy(update={"top1_loss": loss})):
        found = classifier_arithmetic(model, card.model_copy(update={"int8": int8}), "auto", CPU)
        assert not found.int8_base
        assert "base" not in found.measured


def test_without_bf16_units_float32_is_not_measured(
    weights: Path, card: ModelCard, quickest: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_isa", lambda: "avx2")
    quickest |= {"classify refinement": "bf16", "super-resolve": "bf16"}
    model, _ = load_classification(weights)
    found = classifier_arithmetic(model, card, "auto", CPU)
    assert found.dtype == torch.float32
    assert set(found.measured) == {"base"}
    assert resolver_arithmetic(*load_super_resolution(weights), "auto", CPU).dtype == torch.float32


def test_what_is_forced_is_not_measured(
    weights: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fastest", lambda *_: pytest.fail("measured"))
    model, _ = load_classification(weights)
    for name, dtype in precision.DTYPES.items():
        found = classifier_arithmetic(model, card, name, CPU)  # type: ignore[arg-type]
        assert (found.dtype, found.int8_base, found.measured) == (dtype, False, {})
    gpu = torch.device("cuda", 0)
    assert classifier_arithmetic(model, card, "auto", gpu).dtype == torch.bfloat16


def test_int8_is_refused_where_it_cannot_be_had(weights: Path, card: ModelCard) -> None:
    with pytest.raises(ValueError, match=r"has no ranges for int8: .* `pixeltier calibrate classify`"):
        Classifier.load(weights, "int8")
    model, _ = load_classification(weights)
    with pytest.raises(ValueError, match="precision int8 is for processors"):
        classifier_arithmetic(model, card, "int8", torch.device("cuda", 0))


def test_int8_answers_nearly_what_float32_does(
    weights: Path, card: ModelCard, photos: Any, quickest: dict[str, str]
) -> None:
    """At every threshold, the refinement on top of dequantised features included.

    Integer sums do not depend on the threads; the refinement's are of float32.
    """
    model, _ = load_classification(weights)
    exact, rounded = Classifier(model, card, "fp32"), Classifier(model, card, "int8")
    assert rounded.arithmetic.int8_base
    for threshold in (0.0, 1.0):
        limits = [threshold] * len(photos)
        a, b = exact.classify(list(photos), limits), rounded.classify(list(photos), limits)
        probabilities = np.stack([one.probabilities for one in a])
        between_photos = np.abs(probabilities - np.roll(probabilities, 1, axis=0)).sum(axis=1).mean()
        for one, other in zip(a, b, strict=True):
            assert one.macs_executed == other.macs_executed
            assert 0 < np.abs(one.probabilities - other.probabilities).sum() < between_photos
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        again = rounded.classify(list(photos), limits)
        torch.set_num_threads(threads)
        for one, other in zip(b, again, strict=True):
            rounding = 0.0 if threshold == 1 else 1e-4
            np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=rounding)


def test_ranges_survive_the_card(card: ModelCard, tmp_path: Path) -> None:
    from pixeltier.models.cards import write_card

    write_card(card, tmp_path)
    assert load_card("classify", tmp_path) == card
