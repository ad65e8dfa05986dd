"""Masks are nested, budgets are met, windows come back as cells."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixeltier.models.networks.masks import (
    expand_from_windows,
    pool_to_windows,
    standard_scores,
    threshold_mask,
    top_share_mask,
)
from pixeltier.models.networks.resnet18 import stage_scores, stage_sizes
from pixeltier.native import ops


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    window=st.sampled_from([1, 2, 4, 8]),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_a_higher_threshold_never_activates_a_cell(
    height: int, width: int, window: int, low: float, high: float, seed: int
) -> None:
    low, high = sorted((low, high))
    generator = torch.Generator().manual_seed(seed)
    importance = torch.rand(1, 1, -(-height // window), -(-width // window), generator=generator)
    for scores in stage_scores(importance, window, height, width):
        for keep_best in (False, True):
            few = threshold_mask(scores, torch.tensor([high]), keep_best)
            many = threshold_mask(scores, torch.tensor([low]), keep_best)
            assert bool((few <= many).all())
            assert not keep_best or bool(few.any())
            active = ops.plan(scores[:, 0].contiguous(), torch.tensor([high]), keep_best)
            assert torch.equal(active.long(), few.flatten().nonzero().flatten())


@given(height=st.integers(1, 40), width=st.integers(1, 40), window=st.sampled_from([1, 2, 4, 8]))
def test_scores_have_the_grid_of_their_stage(height: int, width: int, window: int) -> None:
    importance = torch.rand(1, 1, -(-height // window), -(-width // window))
    scores = stage_scores(importance, window, height, width)
    assert [tuple(s.shape[2:]) for s in scores] == stage_sizes(height, width)


@given(
    share=st.floats(0.001, 1),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
def test_top_share_meets_its_budget_exactly(share: float, height: int, width: int) -> None:
    scores = torch.rand(2, 1, height, width)
    mask = top_share_mask(scores, share)
    assert int(mask.sum()) == max(1, round(share * scores.numel()))
    if not bool(mask.all()):
        assert scores[mask].min() >= scores[~mask].max()


def test_windows_and_cells() -> None:
    cells = torch.arange(15.0).view(1, 1, 3, 5)
    pooled = pool_to_windows(cells, 2)
    assert pooled.flatten().tolist() == [3.0, 5.0, 6.5, 10.5, 12.5, 14.0]
    assert expand_from_windows(pooled, 2, 3, 5)[0, 0].tolist() == [
        [3.0, 3.0, 5.0, 5.0, 6.5],
        [3.0, 3.0, 5.0, 5.0, 6.5],
        [10.5, 10.5, 12.5, 12.5, 14.0],
    ]


@settings(deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    scale=st.floats(1, 100),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 2**31),
)
def test_scores_do_not_depend_on_how_sure_a_map_is(
    height: int, width: int, scale: float, shift: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, height, width, generator=generator)
    scores = standard_scores(logits)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores.mean((2, 3)), torch.zeros(2, 1), atol=1e-4, rtol=0)
    if height * width > 1 and logits.var((2, 3), correction=0).min() > 0.1:
        torch.testing.assert_close(scores.var((2, 3), correction=0), torch.ones(2, 1), atol=2e-3, rtol=0)
        torch.testing.assert_close(standard_scores(scale * logits + shift), scores, atol=5e-3, rtol=0)
    torch.testing.assert_close(standard_scores(logits[:1]), scores[:1])


def test_a_flat_map_has_no_favourites() -> None:
    assert standard_scores(torch.full((1, 1, 3, 4), 7.3)).tolist() == torch.zeros(1, 1, 3, 4).tolist()
