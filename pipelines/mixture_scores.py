"""What the mixture of a snapshot's pools makes of documents, derived from stored scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from peer_cl.mixture import enter_at, mixture_log_probs
from pipelines.token_scores import Item, ScoreBook


@dataclass(frozen=True)
class MixtureLoss:
    """Losses of a set of documents, in nats a token that counts, and the worst document."""

    base: float
    mixture: float
    max_added_nats: float
    """The worst document's whole loss above the base's; positive = lost."""


def mixture_loss(
    book: ScoreBook, versions: Sequence[str], items: Sequence[Item], share: float
) -> MixtureLoss:
    """Return the mixture's loss with every version asked from the first token.

    Args:
        book: with every score filled in.
        versions: the snapshot's live versions.
        items: documents.
        share: one pool's.
    """
    base_total = mixture_total = 0.0
    worst = -float("inf")
    for item in items:
        mixed = item_log_probs(book, versions, item, share)
        base = float(book.log_probs("base", item).sum())
        base_total -= base
        mixture_total -= float(mixed.sum())
        worst = max(worst, added_nats(base, float(mixed.sum())))
    num_tokens = max(1, sum(len(book.log_probs("base", item)) for item in items))
    return MixtureLoss(base_total / num_tokens, mixture_total / num_tokens, worst)


def added_nats(base: float, mixed: float) -> float:
    """Return how much a text's loss rose above the base's, nats.

    Infinity where it is no number: `max` would pass over that, and one beyond all is told.

    Args:
        base: the text's log probability by the base.
        mixed: the same by what is compared with it.

    Example:
        >>> added_nats(-3.0, -3.5), added_nats(-3.0, float("nan"))
        (0.5, inf)
    """
    added = base - mixed
    return math.inf if math.isnan(added) else added


def item_log_probs(
    book: ScoreBook, versions: Sequence[str], item: Item, share: float
) -> torch.Tensor:
    """Return the mixture's log probability of each token that counts of a document, (T,), fp64."""
    return mixed(book.stack(versions, item), share)


def mixed(stacked_Q1T: torch.Tensor, share: float) -> torch.Tensor:
    """Return the mixture's log probability of each token of one text, (T,).

    Args:
        stacked_Q1T: log probabilities of the tokens that are evidence, the base first; every other
            branch is asked from the start. What is no evidence moves no mass and is left out.
        share: one branch's.
    """
    num_branches, _, num_tokens = stacked_Q1T.shape
    evidence_1T = torch.ones(1, num_tokens, dtype=torch.bool)
    asked_at = torch.zeros(num_branches - 1, 1, dtype=torch.long)
    entries_PBU = enter_at(share, asked_at, num_tokens)
    return mixture_log_probs(stacked_Q1T, evidence_1T, entries_PBU)[0]


def continuation_sums(
    book: ScoreBook, versions: Sequence[str], own: str, items: Sequence[Item], share: float
) -> tuple[float, float, float]:
    """Return summed losses of second halves, the first half given: base, own version, mixture.

    The first half is context: it chooses the shortlist, and evidence counts from its first token.
    """
    base = forced = mixture = 0.0
    for item in items:
        start = item.num_counted_context
        chosen = {version: book.asked(version, item) for version in versions}
        asked = [version for version in versions if chosen[version].first_half]
        base -= float(book.log_probs("base", item)[start:].sum())
        forced -= float(book.log_probs(own, item)[start:].sum())
        mixture -= float(mixed(book.stack(asked, item), share)[start:].sum())
    return base, forced, mixture
