"""Terms: the tokens of a base as words that tell something, for comparing a question with a text.

A term is a token whatever its case, or a pair of neighbouring ones. It weighs what it tells in
background text, in nats; so no document of a store changes what another's terms weigh.

Shape suffixes: V vocabulary, X counted tokens, M marks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_TERM = -1
COMMON_NATS = 4.5
"""A word that tells no more, in nats of background text, tells nothing of what is asked."""
NUMBER_NATS = 9.0
"""What a piece of a number tells beside its neighbour; alone it tells nothing."""
PAIR_WEIGHT = 0.3


@dataclass(frozen=True)
class Terms:
    """What a base's tokens are to questions."""

    terms_V: NDArray[np.int64]
    """One number for all tokens that differ in case or blanks; `NO_TERM` for marks."""
    alone_V: NDArray[np.float64]
    """What each token tells, in nats,"""
    paired_V: NDArray[np.float64]
    """and what beside a neighbour."""

    @staticmethod
    def weighed(terms_V: Tensor, ids_X: Tensor, counts_X: Tensor, marks_M: Tensor) -> Terms:
        """Return terms with what they tell.

        Args:
            terms_V: as `make_terms` gives them.
            ids_X, counts_X: how often tokens stand in background text, those without a letter left
                out.
            marks_M: the tokens without a letter. A term among them is of a number.
        """
        terms, ids = terms_V.numpy(), ids_X.numpy()
        is_term_V = terms != NO_TERM
        known = ids[is_term_V[ids]]
        counts_V = np.bincount(
            terms[known], counts_X.numpy()[is_term_V[ids]].astype(float), minlength=len(terms)
        )
        likely_V = (counts_V[terms] + 0.5) / max(1.0, float(counts_X.sum()))
        alone_V = np.where(is_term_V, np.maximum(0.0, -np.log(likely_V) - COMMON_NATS), 0.0)
        is_number_V = is_term_V & np.isin(np.arange(len(terms)), marks_M.numpy())
        return Terms(
            terms,
            np.where(is_number_V, 0.0, alone_V),
            np.where(is_number_V, NUMBER_NATS, alone_V),
        )

    def told(self, ids: Sequence[int]) -> dict[int, tuple[float, int]]:
        """Return the terms of a text: what each tells, and how often it stands there."""
        kept = [one for one in ids if one < len(self.terms_V) and self.terms_V[one] != NO_TERM]
        terms = [int(self.terms_V[one]) for one in kept]
        counts = Counter(terms)
        found = {
            term: (float(self.alone_V[one]), counts[term])
            for one, term in zip(kept, terms, strict=True)
        }
        pairs = [((a + 1) << 32) + b for a, b in pairwise(terms)]
        numbers = Counter(pairs)
        for pair, (one, other) in zip(pairs, pairwise(kept), strict=True):
            nats = PAIR_WEIGHT * float(self.paired_V[one] + self.paired_V[other])
            found[pair] = (nats, numbers[pair])
        return {term: about for term, about in found.items() if about[0] > 0}


def make_terms(texts: Sequence[str]) -> Tensor:
    """Return the terms of a base whose tokens read so, each alone: int64 (V,).

    Example:
        >>> make_terms([" Quartz", "quartz", ".", " 7"]).tolist()
        [0, 0, -1, 3]
    """
    first: dict[str, int] = {}
    terms = []
    for number, text in enumerate(texts):
        plain = text.strip().casefold()
        is_term = any(sign.isalnum() or sign == "\N{REPLACEMENT CHARACTER}" for sign in plain)
        terms.append(first.setdefault(plain, number) if is_term else NO_TERM)
    return torch.tensor(terms)
