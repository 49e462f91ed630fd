"""Making background statistics and a domain's signature, with thresholds that foreign text passed.

Thresholds look at held-out background text and at the domain's own text alone: never at another
domain, so that none changes another's, and never at the sources that measure the outcome.

Shape suffixes: X tokens of several texts, D width, C centroids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from peer_cl.errors import CorpusError
from peer_cl.shortlist import white_evidence
from peer_cl.signature import Background, Signature, whitening

BACKGROUND_CENTROIDS = 256
DOMAIN_CENTROIDS = 128
FOREIGN_QUANTILE = 0.995
"""Share of held-out background texts that must stay below the threshold."""
DISTANCE_FACTOR = 1.15
"""A long text may lie so much farther from the centroids than the domain's own new text does,"""
SLACK = 1.0
"""and a text of n tokens by this share of it over the root of n more."""
CUTOFF = 2.0
"""A token's squared distance counts for no more; ordinary tokens' is 1.1 in the median."""


def make_background(fitting: Sequence[Tensor], held: Sequence[Tensor], seed: int) -> Background:
    """Return background statistics from the states (T, D) of calibration texts.

    Args:
        fitting: texts that give the mean, the covariance and the centroids.
        held: other texts, kept for thresholds.
        seed: of k-means.

    Raises:
        CorpusError: when either holds no text.
    """
    if not fitting or not held:
        raise CorpusError("background statistics need at least two texts")
    mean_D, whitening_DD = whitening(torch.cat(list(fitting)))
    plain = Background(mean_D, whitening_DD, torch.empty(0), torch.empty(0), torch.empty(0))
    white_XD = plain.whiten(torch.cat(list(fitting)))
    return Background(
        mean_D=mean_D,
        whitening_DD=whitening_DD,
        centroids_CD=_kmeans(white_XD, BACKGROUND_CENTROIDS, seed),
        held_XD=torch.cat([plain.whiten(states_TD) for states_TD in held]).half(),
        held_lengths=torch.tensor([len(states_TD) for states_TD in held]),
    )


def make_signature(
    background: Background, train: Sequence[Tensor], own: Sequence[Tensor], seed: int
) -> Signature:
    """Return a domain's signature from the states of its texts.

    Args:
        background: the store's.
        train: states (T, D) of texts that the pool learned: they give the centroids.
        own: states of the domain's texts that it did not learn: they tell how far its own new
            text lies from the centroids, whole or by its first half. Where there is none, the
            learned ones stand in.
        seed: of k-means.
    """
    white_XD = torch.cat([background.whiten(states_TD) for states_TD in train])
    bare = Signature(
        _kmeans(white_XD, DOMAIN_CENTROIDS, seed), 0.0, math.inf, slack=SLACK, cutoff=CUTOFF
    )
    foreign = torch.tensor(
        [
            _means(background, bare, states_TD)
            for states_TD in background.held_XD.float().split(background.held_lengths.tolist())
        ]
    )
    # Zero log odds: as likely the domain's as ordinary text. Never below what foreign text reaches.
    threshold = max(float(foreign[:, 0].quantile(FOREIGN_QUANTILE)), 0.0)
    # A context is often the start of a text, and what a text starts with may lie farther out.
    wholes = own or train
    starts = [states_TD[: (len(states_TD) + 1) // 2] for states_TD in wholes]
    max_distance = DISTANCE_FACTOR * max(
        _mean_distance(background, bare, texts) for texts in (wholes, starts)
    )
    return replace(bare, threshold=threshold, max_distance=max_distance)


def _mean_distance(background: Background, signature: Signature, texts: Sequence[Tensor]) -> float:
    distances = [
        _means(background, signature, background.whiten(states_TD))[1] for states_TD in texts
    ]
    return sum(distances) / len(distances)


def _means(background: Background, signature: Signature, white_TD: Tensor) -> tuple[float, float]:
    """Return a text's mean log odds a token, and its mean squared distance over the width."""
    log_odds_T1, distance_T1 = white_evidence(white_TD, background, [signature])
    return float(log_odds_T1.mean()), float(distance_T1.mean())


def grow_signature(older: Signature | None, new: Signature) -> Signature:
    """Return the signature of a domain that grew: both segments' centroids, the wider limits."""
    if older is None:
        return new
    return Signature(
        torch.cat([older.centroids_CD, new.centroids_CD]),
        min(older.threshold, new.threshold),
        max(older.max_distance, new.max_distance),
        slack=max(older.slack, new.slack),
        cutoff=max(older.cutoff, new.cutoff),
    )


def _kmeans(vectors_XD: Tensor, num: int, seed: int) -> Tensor:
    from stores.vector_index import kmeans

    return torch.from_numpy(kmeans(vectors_XD.numpy(), num, seed))
