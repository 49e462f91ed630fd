"""Limits of a domain's signature: whom they let in, and whom they keep out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from peer_cl.signature import Background, Signature
from pipelines.signatures import (
    CUTOFF,
    DISTANCE_FACTOR,
    SLACK,
    grow_signature,
    make_background,
    make_signature,
)

WIDTH = 16


@pytest.fixture(scope="module")
def background() -> Background:
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(12, WIDTH, generator=generator) for _ in range(80)]
    return make_background(texts[:40], texts[40:], seed=0)


def _texts(num: int, seed: int, scales: Tensor) -> list[Tensor]:
    """Return texts around one point far from the background, each token as wide as its scale."""
    generator = torch.Generator().manual_seed(seed)
    return [
        5.0 + scales[:, None] * torch.randn(len(scales), WIDTH, generator=generator)
        for _ in range(num)
    ]


def _distance(background: Background, centroids_CD: Tensor, states_TD: Tensor) -> float:
    white_TD = background.whiten(states_TD)
    return float(
        (torch.cdist(white_TD, centroids_CD).square().amin(1) / WIDTH).clamp(max=CUTOFF).mean()
    )


def test_the_limit_follows_the_starts_of_texts_where_these_lie_farther(
    background: Background,
) -> None:
    train = _texts(30, 1, torch.ones(8))
    own = _texts(10, 2, torch.tensor([2.0] * 4 + [1.0] * 4))
    signature = make_signature(background, train, own, seed=0)
    starts = [_distance(background, signature.centroids_CD, text[:4]) for text in own]
    wholes = [_distance(background, signature.centroids_CD, text) for text in own]
    assert sum(starts) > 1.1 * sum(wholes)
    assert signature.max_distance == pytest.approx(DISTANCE_FACTOR * sum(starts) / 10, rel=1e-5)


def test_the_limit_follows_whole_texts_where_their_ends_lie_farther(
    background: Background,
) -> None:
    train = _texts(30, 1, torch.ones(8))
    own = _texts(10, 2, torch.tensor([1.0] * 4 + [2.0] * 4))
    signature = make_signature(background, train, own, seed=0)
    wholes = [_distance(background, signature.centroids_CD, text) for text in own]
    assert signature.max_distance == pytest.approx(DISTANCE_FACTOR * sum(wholes) / 10, rel=1e-5)


def test_without_unlearned_text_the_learned_one_sets_the_limit(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    assert make_signature(background, train, [], seed=0).max_distance == (
        make_signature(background, train, train, seed=0).max_distance
    )


def test_a_text_of_one_token_sets_a_limit_too(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    signature = make_signature(background, train, [train[0][:1] + 1.0], seed=0)
    assert 0 < signature.max_distance < float("inf")


def test_one_token_far_out_says_no_more_than_the_cut_off(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    far = [torch.cat([text[:7], 1e4 * text[7:]]) for text in train]
    whole = make_signature(background, train, far, seed=0)
    assert whole.max_distance <= DISTANCE_FACTOR * CUTOFF
    plain = make_signature(background, train, train, seed=0)
    assert whole.max_distance - plain.max_distance <= DISTANCE_FACTOR * CUTOFF / 4
    assert (whole.slack, whole.cutoff) == (SLACK, CUTOFF)


def test_a_domain_that_grows_keeps_the_wider_limits(background: Background) -> None:
    new = make_signature(background, _texts(30, 1, torch.ones(8)), [], seed=0)
    old = Signature(new.centroids_CD[:1], -0.5, 0.1)  # of the first stores: nothing is cut off
    grown = grow_signature(old, new)
    assert len(grown.centroids_CD) == len(new.centroids_CD) + 1
    assert (grown.threshold, grown.max_distance) == (-0.5, new.max_distance)
    assert (grown.slack, grown.cutoff) == (SLACK, math.inf)


def test_the_threshold_is_zero_log_odds_or_what_foreign_text_reaches(
    background: Background,
) -> None:
    far = make_signature(background, _texts(30, 1, torch.ones(8)), [], seed=0)
    assert far.threshold == 0.0
    foreign = list(background.held_XD.float().split(background.held_lengths.tolist()))
    unwhitened = [
        t @ torch.linalg.inv(background.whitening_DD) + background.mean_D for t in foreign
    ]
    near = make_signature(background, unwhitened, [], seed=0)
    assert near.threshold > 0.0
