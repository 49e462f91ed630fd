"""Making background statistics and a domain's signature, with thresholds that foreign text passed.

Thresholds look at held-out background text and at the domain's own text alone: never at another
domain, so that none changes another's, and never at the sources that measure the outcome.

Shape suffixes: X tokens of several texts, D width, C centroids.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from peer_cl.errors import CorpusError
from peer_cl.shortlist import white_evidence
from peer_cl.signature import Background, Signature, whitening
from peer_cl.words import OrdinaryWords, Piece, Words, make_words
from pipelines.batches import Row

BACKGROUND_CENTROIDS = 256
DOMAIN_CENTROIDS = 128
FOREIGN_QUANTILE = 0.995
"""Share of held-out background texts that must stay below the threshold."""
FIT = 0.7
"""A long text must fit so well: 0 is ordinary text's mean, 1 that of the domain's own new text;"""
FIT_SLACK = 1.2
"""a text of n tokens so much over the root of n less."""
_PIECE = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no whole sign."""
CUTOFF = 2.0
"""A token's squared distance counts for no more; ordinary tokens' is 1.1 in the median."""


def make_background(
    fitting: Sequence[Tensor],
    held: Sequence[Tensor],
    seed: int,
    words: OrdinaryWords | None = None,
) -> Background:
    """Return background statistics from the states (T, D) of calibration texts.

    Args:
        fitting: texts that give the mean, the covariance and the centroids.
        held: other texts, kept for thresholds.
        seed: of k-means.
        words: how likely each token is in ordinary text; None: words will not count.

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
        words=words,
    )


def make_signature(
    background: Background,
    train: Sequence[Tensor],
    own: Sequence[Tensor],
    seed: int,
    words: Words | None = None,
) -> Signature:
    """Return a domain's signature from the states of its texts, and their words.

    Args:
        background: the store's.
        train: states (T, D) of texts that the pool learned: they give the centroids.
        own: states of the domain's texts that it did not learn: they tell how well its own new
            text fits, whole or by its first half. Where there is none, the learned ones stand in.
        seed: of k-means.
        words: of the texts; None: states decide alone.
    """
    white_XD = torch.empty(sum(map(len, train)), background.mean_D.shape[0])
    # Piece by piece: a list beside the whole would take as much memory again.
    for states_TD, white_TD in zip(train, white_XD.split([len(one) for one in train]), strict=True):
        white_TD.copy_(background.whiten(states_TD))
    bare = Signature(_kmeans(white_XD, DOMAIN_CENTROIDS, seed), 0.0, cutoff=CUTOFF)
    held = background.held_XD.float().split(background.held_lengths.tolist())
    foreign = [_means(background, bare, white_TD) for white_TD in held]
    log_odds = torch.tensor([one.log_odds for one in foreign])
    # Zero log odds: as likely the domain's as ordinary text. Never below what foreign text reaches.
    threshold = max(float(log_odds.quantile(FOREIGN_QUANTILE)), 0.0)
    whites = [background.whiten(states_TD) for states_TD in own or train]
    # A context is often the start of a text, and what a text starts with may lie farther out.
    starts = [white_TD[: (len(white_TD) + 1) // 2] for white_TD in whites]
    its_own = min(
        _mean_fit(bare, [_means(background, bare, white_TD) for white_TD in texts])
        for texts in (whites, starts)
    )
    ordinary = _mean_fit(bare, foreign)
    return replace(
        bare,
        threshold=threshold,
        least_fit=ordinary + FIT * (its_own - ordinary),
        fit_slack=FIT_SLACK * (its_own - ordinary),
        words=() if words is None else (words,),
    )


def words_of(
    ordinary: OrdinaryWords,
    rows: Sequence[Row],
    others: Sequence[Row],
    groups: Mapping[str, str],
    special: Collection[int],
) -> Words:
    """Return the words of what a segment learned.

    Args:
        ordinary: the store's.
        rows: the documents themselves, and facts.
        others: what is read besides, in other words.
        groups: by the id of a document, the group that near-duplicates share with it.
        special: tokens that are no words.
    """
    told = [
        (row, Piece(groups.get(row.document_id, row.document_id), words_alone(row.ids, special)))
        for row in (*rows, *others)
    ]
    return make_words(
        ordinary,
        [piece for row, piece in told if row.kind == "text"],
        [piece for row, piece in told if row.kind != "text"],
    )


def words_alone(ids: Sequence[int], special: Collection[int]) -> list[int]:
    """Return token ids without special tokens, which are no words."""
    return [token for token in ids if token not in special]


def mark_ids(tokenizer: Any) -> Tensor:
    """Return the tokens that are no words, without a letter: int64, ascending.

    Where texts are cut into bytes, a piece of a letter that takes several is a word's.
    """
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    marks = [token for token, text in enumerate(texts) if not any(map(_is_of_word, text))]
    return torch.tensor(marks, dtype=torch.long)


def _is_of_word(sign: str) -> bool:
    return sign == _PIECE or unicodedata.category(sign)[0] in "LM"


class _Means(NamedTuple):
    """What a text says of a domain, the mean of its tokens."""

    log_odds: float
    distance: float
    """Squared, over the width."""


def _means(background: Background, signature: Signature, white_TD: Tensor) -> _Means:
    log_odds_T1, distance_T1 = white_evidence(white_TD, background, [signature])
    return _Means(float(log_odds_T1.mean()), float(distance_T1.mean()))


def _mean_fit(signature: Signature, texts: Sequence[_Means]) -> float:
    log_odds_X, distance_X = torch.tensor(texts, dtype=torch.float64).T
    return float(signature.fit_of(log_odds_X, distance_X).mean())


def grow_signature(older: Signature | None, new: Signature) -> Signature:
    """Return the signature of a domain that grew: both segments' centroids, the wider limits.

    Words stay apart: each segment's have a threshold that goes with their own counts. A segment of
    before words counted has none, and then states decide for both.
    """
    if older is None:
        return new
    # A segment of before there was a fit says nothing on it: the new one's then holds for both.
    wider = max if math.isinf(older.least_fit) else min
    least_fit = wider(older.least_fit, new.least_fit)
    return Signature(
        torch.cat([older.centroids_CD, new.centroids_CD]),
        min(older.threshold, new.threshold),
        cutoff=max(older.cutoff, new.cutoff),
        least_fit=least_fit,
        fit_slack=max(older.fit_slack, new.fit_slack),
        words=(*older.words, *new.words) if older.words and new.words else (),
    )


def _kmeans(vectors_XD: Tensor, num: int, seed: int) -> Tensor:
    from stores.vector_index import kmeans

    return torch.from_numpy(kmeans(vectors_XD.numpy(), num, seed))
