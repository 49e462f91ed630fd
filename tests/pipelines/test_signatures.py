"""Limits of a domain's signature: whom they let in, and whom they keep out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from peer_cl.signature import TYPICALITY, Background, Signature
from pipelines.signatures import (
    CUTOFF,
    FIT,
    FIT_SLACK,
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


def _fit(background: Background, signature: Signature, texts: list[Tensor]) -> float:
    """Return the mean fit of texts, by hand: nats a token."""
    fits = []
    for states_TD in texts:
        white_TD = background.whiten(states_TD)
        ordinary_T, own_T = (
            torch.cdist(white_TD, centroids_CD).square().amin(1).clamp(max=CUTOFF * WIDTH)
            for centroids_CD in (background.centroids_CD, signature.centroids_CD)
        )
        fits.append(float((0.5 * ordinary_T - (0.5 + TYPICALITY) * own_T).mean()))
    return sum(fits) / len(fits)


def _unwhitened(background: Background) -> list[Tensor]:
    """Return the held-out background texts as states."""
    held = background.held_XD.float().split(background.held_lengths.tolist())
    back_DD = torch.linalg.inv(background.whitening_DD)
    return [white_TD @ back_DD + background.mean_D for white_TD in held]


@pytest.mark.parametrize("farther", ["starts", "ends"])
def test_limits_follow_whatever_part_of_its_new_texts_fits_worse(
    background: Background, farther: str
) -> None:
    train = _texts(30, 1, torch.ones(8))
    scales = [2.0] * 4 + [1.0] * 4
    own = _texts(10, 2, torch.tensor(scales if farther == "starts" else scales[::-1]))
    signature = make_signature(background, train, own, seed=0)
    wholes = _fit(background, signature, own)
    starts = _fit(background, signature, [text[:4] for text in own])
    assert (starts < wholes - 1) == (farther == "starts")
    ordinary = _fit(background, signature, _unwhitened(background))
    spread = min(starts, wholes) - ordinary
    assert spread > 1
    assert signature.least_fit == pytest.approx(ordinary + FIT * spread, rel=1e-3)
    assert signature.fit_slack == pytest.approx(FIT_SLACK * spread, rel=1e-3)
    assert (signature.max_distance, signature.slack) == (math.inf, 0.0)


def test_without_unlearned_text_the_learned_one_sets_the_limit(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    assert make_signature(background, train, [], seed=0).least_fit == (
        make_signature(background, train, train, seed=0).least_fit
    )


def test_a_text_of_one_token_sets_a_limit_too(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    signature = make_signature(background, train, [train[0][:1] + 1.0], seed=0)
    assert math.isfinite(signature.least_fit)


def test_one_token_far_out_says_no_more_than_the_cut_off(background: Background) -> None:
    train = _texts(30, 1, torch.ones(8))
    far = [torch.cat([text[:7], 1e4 * text[7:]]) for text in train]
    whole = make_signature(background, train, far, seed=0)
    plain = make_signature(background, train, train, seed=0)
    assert plain.least_fit - whole.least_fit <= FIT * (0.5 + TYPICALITY) * CUTOFF * WIDTH / 4
    assert whole.cutoff == CUTOFF


def test_a_domain_that_grows_keeps_the_wider_limits(background: Background) -> None:
    new = make_signature(background, _texts(30, 1, torch.ones(8)), [], seed=0)
    for older_fit, fit in ((new.least_fit - 3, new.least_fit - 3), (-math.inf, new.least_fit)):
        older = Signature(new.centroids_CD[:1], -0.5, least_fit=older_fit, fit_slack=1e3)
        grown = grow_signature(older, new)
        assert len(grown.centroids_CD) == len(new.centroids_CD) + 1
        assert (grown.threshold, grown.least_fit) == (-0.5, fit)
        assert (grown.fit_slack, grown.cutoff) == (1e3, math.inf)


def test_the_threshold_is_zero_log_odds_or_what_foreign_text_reaches(
    background: Background,
) -> None:
    far = make_signature(background, _texts(30, 1, torch.ones(8)), [], seed=0)
    assert far.threshold == 0.0
    near = make_signature(background, _unwhitened(background), [], seed=0)
    assert near.threshold > 0.0
