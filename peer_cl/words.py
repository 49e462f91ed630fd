"""Words: which tokens a domain's texts use more than ordinary text does.

The base's states say what a text is like; its words, the base's own tokens, say what it is about. A
token speaks for a domain by the log of how much likelier it is there than in ordinary text: a
log-likelihood ratio of unigrams, the domain's smoothed by a Dirichlet prior (Zhai and Lafferty,
SIGIR 2001). Tokens without a letter are no words: how often there is a line break, a quotation mark
or a digit says how a text is laid out, and the store's ordinary text has a layout of its own.
Counts are kept, so that what a domain's words say depends on its own texts and on the store's
ordinary text alone.

The constants here made the thresholds that signatures hold, and the means that an evaluation keeps:
who changes one has to make both anew.

Shape suffixes: T tokens, X distinct tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from peer_cl.errors import DamageError, InputError

UNSEEN_SHARE = 0.07
"""Of ordinary text, at least what is left for tokens that the texts read do not hold, all equally
likely."""
PRIOR_TOKENS = 100
"""A domain's counts begin as those of so many tokens of ordinary text: it has few texts."""
LEAST_LOG_ODDS = -2.0
"""A token speaks against a domain by no more nats: one that its few texts happen not to hold says
little, and few such would outweigh all that they do hold."""
LEAST_NATS = 5.0
"""Words ask no pool that say less than this in all: a few common ones may well be a domain's."""
WINDOW = 32
"""Tokens of a text that thresholds look at: a context is often about as short."""
OWN_SHARE_LOST = 0.06
"""Of windows of a domain's own texts, so many may lie below its threshold."""


@dataclass(frozen=True)
class TokenCounts:
    """How often each token stands in some texts.

    Example:
        >>> counts = TokenCounts.of([[7, 5, 7]])
        >>> counts.at(torch.tensor([5, 6, 7])).tolist()
        [1.0, 0.0, 2.0]
    """

    ids_X: Tensor
    """int64, ascending."""
    counts_X: Tensor
    """int64."""

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]]) -> TokenCounts:
        """Return the counts of texts, each as token ids."""
        tokens = [torch.tensor(ids, dtype=torch.long) for ids in texts]
        joined = torch.cat(tokens) if tokens else torch.empty(0, dtype=torch.long)
        ids_X, counts_X = joined.unique(return_counts=True)
        return cls(ids_X, counts_X)

    @cached_property
    def total(self) -> int:
        """How many tokens were counted."""
        return int(self.counts_X.sum())

    def at(self, ids: Tensor) -> Tensor:
        """Return how often each of these tokens was counted: fp64, of the same shape."""
        if not len(self.ids_X):
            return torch.zeros(ids.shape, dtype=torch.float64)
        places = torch.searchsorted(self.ids_X, ids.contiguous()).clamp_max(len(self.ids_X) - 1)
        found = self.counts_X[places].double()
        return torch.where(self.ids_X[places] == ids, found, 0.0)

    def without(self, ids_M: Tensor) -> TokenCounts:
        """Return these counts but for those of some tokens."""
        kept_X = ~torch.isin(self.ids_X, ids_M)
        return TokenCounts(self.ids_X[kept_X], self.counts_X[kept_X])

    def check(self, what: str) -> None:
        """Raise DamageError where these cannot be counts: they come from a file."""
        for one_X in (self.ids_X, self.counts_X):
            if one_X.dtype != torch.long or one_X.ndim != 1:
                raise DamageError(f"{what}: token ids and counts are not two rows of whole numbers")
        if len(self.ids_X) != len(self.counts_X):
            raise DamageError(f"{what}: {len(self.ids_X)} token ids, {len(self.counts_X)} counts")
        if bool((self.ids_X.diff() <= 0).any()) or bool((self.counts_X <= 0).any()):
            raise DamageError(f"{what}: token ids must ascend, and counts be above 0")


@dataclass(frozen=True)
class OrdinaryWords:
    """How likely each token is in ordinary text; fixed when a store is made."""

    counts: TokenCounts
    vocabulary: int
    """How many words there are."""
    marks_M: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Tokens that are no words, int64, ascending: nothing is said by them, and none is counted.
    Empty: of a store that was made when each token was a word."""

    def __post_init__(self) -> None:
        if self.vocabulary < 1:
            raise InputError(f"a vocabulary must be 1 or more, not {self.vocabulary}")

    @cached_property
    def unseen_share(self) -> float:
        """How likely a token is one that was not counted: as those that were once (Good, 1953), so
        that after a few pages of ordinary text not every other word looks like a domain's."""
        once = int((self.counts.counts_X == 1).sum())
        return max(UNSEEN_SHARE, once / max(1, self.counts.total))

    def likelihood(self, ids: Tensor) -> Tensor:
        """Return each word's probability: fp64, of the same shape; nan where a token is none."""
        seen = self.counts.at(ids) / max(1, self.counts.total)
        likely = (1 - self.unseen_share) * seen + self.unseen_share / self.vocabulary
        return likely.masked_fill(torch.isin(ids, self.marks_M), torch.nan)


@dataclass(frozen=True)
class Words:
    """What the texts that a segment learned are about, and from which score on a text is."""

    counts: TokenCounts
    threshold: float
    """Nats a token, the mean over a text."""

    def check(self, what: str) -> None:
        """Raise DamageError where these cannot be words: they come from a file."""
        self.counts.check(what)
        if not math.isfinite(self.threshold):
            raise DamageError(f"{what}: the threshold is {self.threshold}, not a number of nats")

    def log_odds(self, ids: Tensor, likelihood: Tensor) -> Tensor:
        """Return by how much likelier each token is in these texts than in ordinary ones.

        Args:
            ids: token ids, any shape, on the CPU.
            likelihood: of `OrdinaryWords`; the same shape.

        Returns: nats, fp64; no lower than `LEAST_LOG_ODDS`, and 0 for what is no word.
        """
        return word_log_odds(self.counts.at(ids), self.counts.total, likelihood)


def word_log_odds(counts: Tensor, total: int | Tensor, likelihood: Tensor) -> Tensor:
    """Return the log odds of tokens for texts that hold them so often, against ordinary text.

    Args:
        counts: of each token in these texts, fp64.
        total: how many tokens these texts have.
        likelihood: of each token in ordinary text; nan for one that is no word.

    Example:
        >>> ordinary = torch.tensor([0.001, 0.001, torch.nan], dtype=torch.float64)
        >>> counts = torch.tensor([9.0, 0.0, 0.0], dtype=torch.float64)
        >>> word_log_odds(counts, 900, ordinary).round(decimals=2).tolist()
        [2.21, -2.0, 0.0]
    """
    likelier = (counts / likelihood + PRIOR_TOKENS) / (total + PRIOR_TOKENS)
    return likelier.log().clamp_min(LEAST_LOG_ODDS).nan_to_num(nan=0.0)


class Piece(NamedTuple):
    """Token ids of a document, or of a part of it, or of another wording of it."""

    group: str
    """The document's; near-duplicates have one together."""
    ids: Sequence[int]


def make_words(
    ordinary: OrdinaryWords, texts: Sequence[Piece], besides: Sequence[Piece] = ()
) -> Words:
    """Return the words of a segment.

    The threshold is what all but a few windows of its own texts reach, each seen by the words of
    other groups alone: its own, and a near-duplicate's, would make it look more like the domain
    than a new text will. Facts know no document and speak for all. Where all is one group, each
    half of a text is seen by the other.

    Args:
        ordinary: the store's.
        texts: of documents.
        besides: what is learned besides, facts and other wordings: counted, no windows. Where there
            are no texts, it stands in for them.
    """
    told = [*texts, *besides]
    counts = TokenCounts.of(piece.ids for piece in told).without(ordinary.marks_M)
    windows = list(texts or besides)
    if len({piece.group for piece in windows}) == 1:
        told = [half for piece in told for half in _halves(piece)]
        windows = [half for piece in windows for half in _halves(piece)]
    of_group: dict[str, list[Sequence[int]]] = {piece.group: [] for piece in windows}
    for piece in told:
        if piece.group in of_group:
            of_group[piece.group].append(piece.ids)
    own = {
        group: TokenCounts.of(all_ids).without(ordinary.marks_M)
        for group, all_ids in of_group.items()
    }
    means: list[float] = []
    for piece in windows:
        ids_T = torch.tensor(piece.ids, dtype=torch.long)
        left_T = counts.at(ids_T) - own[piece.group].at(ids_T)
        total = counts.total - own[piece.group].total
        odds_T = word_log_odds(left_T, total, ordinary.likelihood(ids_T))
        # The last window of a piece may be a few tokens, and say anything.
        whole = [one for one in odds_T.split(WINDOW) if 2 * len(one) >= WINDOW]
        means += [float(one.mean()) for one in whole or [odds_T] if len(one)]
    reached = torch.tensor(means or [0.0], dtype=torch.float64)
    return Words(counts, float(reached.quantile(OWN_SHARE_LOST)))


def _halves(piece: Piece) -> tuple[Piece, Piece]:
    middle = len(piece.ids) // 2
    return Piece("first", piece.ids[:middle]), Piece("second", piece.ids[middle:])
