"""Words: which tokens a domain's texts use more than ordinary text does.

The base's states say what a text is like; its words say what it is about. A token speaks for a
domain by the log of how much likelier it is there than in ordinary text. Counts are kept, so that
what a domain's words say depends on its own texts and on the store's ordinary text alone.

Shape suffixes: B rows, T tokens, X distinct tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peer_cl.errors import DamageError, InputError

UNSEEN_SHARE = 0.07
"""Of ordinary text, what is left for tokens that the texts read do not hold, all equally likely."""
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

    @property
    def total(self) -> int:
        """How many tokens were counted."""
        return int(self.counts_X.sum())

    def at(self, ids: Tensor) -> Tensor:
        """Return how often each of these tokens was counted: fp64, of the same shape."""
        if not len(self.ids_X):
            return torch.zeros(ids.shape, dtype=torch.float64)
        places = torch.searchsorted(self.ids_X, ids).clamp_max(len(self.ids_X) - 1)
        found = self.counts_X[places].double()
        return torch.where(self.ids_X[places] == ids, found, 0.0)

    def check(self, what: str) -> None:
        """Raise DamageError where these cannot be counts: they come from a file."""
        whole = (self.ids_X.dtype, self.counts_X.dtype) == (torch.long, torch.long)
        if not whole or self.ids_X.ndim != 1 or self.ids_X.shape != self.counts_X.shape:
            raise DamageError(f"{what}: token ids and counts are not two rows of whole numbers")
        if len(self.ids_X) and (
            bool((self.ids_X.diff() <= 0).any()) or int(self.counts_X.min()) <= 0
        ):
            raise DamageError(f"{what}: token ids must ascend, and counts be above 0")


@dataclass(frozen=True)
class OrdinaryWords:
    """How likely each token is in ordinary text; fixed when a store is made."""

    counts: TokenCounts
    vocabulary: int
    """How many tokens there are."""

    def __post_init__(self) -> None:
        if self.vocabulary < 1:
            raise InputError(f"a vocabulary must be 1 or more, not {self.vocabulary}")

    def likelihood(self, ids: Tensor) -> Tensor:
        """Return each token's probability: fp64, of the same shape."""
        seen = self.counts.at(ids) / max(1, self.counts.total)
        return (1 - UNSEEN_SHARE) * seen + UNSEEN_SHARE / self.vocabulary


@dataclass(frozen=True)
class Words:
    """What the texts that a segment learned are about, and from which score on a text is."""

    counts: TokenCounts
    threshold: float
    """Nats a token, the mean over a text."""

    def log_odds(self, ids: Tensor, likelihood: Tensor) -> Tensor:
        """Return by how much likelier each token is in these texts than in ordinary ones.

        Args:
            ids: token ids, any shape, on the CPU.
            likelihood: of `OrdinaryWords`; the same shape.

        Returns: nats, fp64; no lower than `LEAST_LOG_ODDS`.
        """
        return word_log_odds(self.counts.at(ids), self.counts.total, likelihood)


def word_log_odds(counts: Tensor, total: int | Tensor, likelihood: Tensor) -> Tensor:
    """Return the log odds of tokens for texts that hold them so often, against ordinary text.

    Args:
        counts: of each token in these texts, fp64.
        total: how many tokens these texts have.
        likelihood: of each token in ordinary text.

    Example:
        >>> ordinary = torch.tensor([0.001, 0.001], dtype=torch.float64)
        >>> counts = torch.tensor([9.0, 0.0], dtype=torch.float64)
        >>> word_log_odds(counts, 900, ordinary).round(decimals=2).tolist()
        [2.21, -2.0]
    """
    likelier = (counts / likelihood + PRIOR_TOKENS) / (total + PRIOR_TOKENS)
    return likelier.log().clamp_min(LEAST_LOG_ODDS)


def make_words(
    ordinary: OrdinaryWords,
    texts: Sequence[tuple[str, Sequence[int]]],
    besides: Sequence[tuple[str, Sequence[int]]] = (),
) -> Words:
    """Return the words of a segment.

    The threshold is what all but a few windows of its own texts reach, each seen by the words of
    other documents alone: its own would make it look more like the domain than a new text will.

    Args:
        ordinary: the store's.
        texts: documents, or pieces of them: the document's id and token ids.
        besides: what is learned besides, with the id of the document whose other wording it is:
            counted, no windows. Where there are no texts, it stands in for them.
    """
    by_document: dict[str, list[Sequence[int]]] = {}
    for key, ids in (*texts, *besides):
        by_document.setdefault(key, []).append(ids)
    own = {key: TokenCounts.of(pieces) for key, pieces in by_document.items()}
    counts = TokenCounts.of(ids for _, ids in (*texts, *besides))
    means: list[float] = []
    for key, ids in texts or besides:
        ids_T = torch.tensor(ids, dtype=torch.long)
        left_T = counts.at(ids_T) - own[key].at(ids_T)
        total = counts.total - own[key].total
        odds_T = word_log_odds(left_T, total, ordinary.likelihood(ids_T))
        # The last window of a piece may be a few tokens, and say anything.
        whole = [one for one in odds_T.split(WINDOW) if 2 * len(one) >= WINDOW]
        means += [float(one.mean()) for one in whole or [odds_T] if len(one)]
    reached = torch.tensor(means or [0.0], dtype=torch.float64)
    return Words(counts, float(reached.quantile(OWN_SHARE_LOST)))
