"""A second super-resolver beside the first: loaded with it, used where it is asked for, absent where there is none."""

from pathlib import Path

import numpy as np
import pytest

from pixeltier.models.cards import COMPRESSED, compressed_directory, load_card
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.outcome import UNLIMITED
from pixeltier.models.results import SuperResolution
from pixeltier.service import catalogue
from pixeltier.service.tasks import Task
from pixeltier.service.worker import engine
from tests.unit.models.networks import photo_like, super_resolution, write_weights

SHAPE = SuperResolutionShape(base_blocks=1, blocks=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_weights(tmp_path_factory.mktemp("weights"), resolver=super_resolution(SHAPE, seed=1))
    write_weights(folder / COMPRESSED, resolver=super_resolution(SHAPE, seed=2))
    return folder


def test_both_are_loaded_and_differ(weights: Path) -> None:
    both = engine.load(str(weights), "fp32")
    assert both.knows_compressed
    photo = photo_like(20, 24)
    clean, compressed = (both.upscale(photo, 0.0, UNLIMITED, compressed=asked) for asked in (False, True))
    assert isinstance(clean, SuperResolution)
    assert isinstance(compressed, SuperResolution)
    assert clean.macs_executed == compressed.macs_executed
    assert np.abs(clean.image.astype(int) - compressed.image).max() > 3
    alone = engine.load(str(weights / COMPRESSED), "fp32")
    assert not alone.knows_compressed
    for asked in (False, True):
        found = alone.upscale(photo, 0.0, UNLIMITED, compressed=asked)
        assert isinstance(found, SuperResolution)
        assert np.array_equal(found.image, compressed.image)


def test_the_catalogue_has_its_card(weights: Path) -> None:
    found = catalogue.load(weights).models[Task.SUPER_RESOLVE]
    card = load_card("super-resolve", weights / COMPRESSED)
    assert found.compressed_card == card.model_dump(mode="json")
    assert catalogue.load(weights).models[Task.CLASSIFY].compressed_card is not None  # the helper writes both
    assert catalogue.load(weights / COMPRESSED).models[Task.SUPER_RESOLVE].compressed_card is None


def test_where_there_is_none_there_is_no_directory(tmp_path: Path) -> None:
    write_weights(tmp_path)
    assert compressed_directory("super-resolve", tmp_path) is None
    (tmp_path / COMPRESSED).mkdir()
    assert compressed_directory("super-resolve", tmp_path) is None
