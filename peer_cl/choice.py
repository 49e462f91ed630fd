"""The choice of a text's pools, by signature and by name, and whether a name counts.

Shape suffixes: B rows, R rows of one pool, T tokens, U = T + 1 borders, V vocabulary, P pools,
Q branches with the base first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from peer_cl.mixture import enter_at
from peer_cl.shortlist import Means, TokenEvidence, asked_by_means, context_means
from peer_cl.signature import Signature

MOST_NAMED_TOKENS = 48
"""In a longer context names count for nothing: it says enough by itself."""
SAY_NATS = 2.0
"""A pool whose domain is named has something to say where what it foresees next is so far from what
the base does: the KL divergence from its distribution to the base's,"""
WORDS_SAY = 0.15
"""and this share of what the context's words say for the domain: the more they do, the less it
needs to foresee otherwise, and a question that merely holds one of its names needs more."""


@dataclass(frozen=True)
class Named:
    """Pools whose domains a context names."""

    odds_PB: Tensor
    """fp64; what a pool has beside its share, as odds against the base; 0 where it is not named."""
    alone_PB: Tensor
    """bool; where nothing but the name asks the pool."""
    at_PB: Tensor
    """int64; the border at which the odds enter."""
    words_PB: Tensor
    """fp64; nats that the context's words say for the domain in all, of the segment for which they
    say most; 0 where its signature has no words."""


@dataclass(frozen=True)
class Choice:
    """Which pools a batch of texts asks, from where on, and with how much weight."""

    pools: tuple[str, ...]
    at_PB: Tensor
    """int64; the border before which a pool enters a row with its share, -1 for never."""
    named: Named | None = None
    """None: names count for nothing."""

    def of(self, pools: Sequence[str]) -> Choice:
        """Return the part of some of these pools."""
        places = [self.pools.index(pool) for pool in pools]
        if self.named is None:
            return Choice(tuple(pools), self.at_PB[places])
        own = (getattr(self.named, field.name)[places] for field in fields(Named))
        return Choice(tuple(pools), self.at_PB[places], Named(*own))

    def odds(self, num_tokens: int) -> Tensor | None:
        """Return the odds that enter before each token, (P, B, U), for `peer_cl.mixture`."""
        if self.named is None:
            return None
        return enter_at(self.named.odds_PB[..., None], self.named.at_PB, num_tokens)


def named_by_context(
    input_ids: Tensor,
    counted_BT: Tensor,
    signatures: Sequence[Signature],
    lengths_B: Tensor,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Return which pools' domains a given context names: bool (P, B); a long one names none.

    Args:
        input_ids: (B, T).
        counted_BT: bool; a name must stand in such tokens alone, or begin just before the first of
            them: a text without a start token begins with one that nothing predicts.
        signatures: one a pool.
        lengths_B: how many tokens of each row are context.
        attention_mask: (B, T), 0 for padding, which makes no context long.
    """
    begins_BT = torch.nn.functional.pad(counted_BT[:, 1:], (0, 1)) & (counted_BT.cumsum(1) == 0)
    counted_BT = counted_BT | begins_BT
    inside_BT = torch.arange(input_ids.shape[1], device=lengths_B.device) < lengths_B[:, None]
    counted_BT = counted_BT & inside_BT
    named_PB = torch.stack([one.names.stand_in(input_ids, counted_BT) for one in signatures])
    read_BT = inside_BT if attention_mask is None else inside_BT & attention_mask.bool()
    return named_PB & (read_BT.sum(1) <= MOST_NAMED_TOKENS)


def choose_by_context(
    pools: Sequence[str],
    input_ids: Tensor,
    evidence: TokenEvidence,
    signatures: Sequence[Signature],
    lengths_B: Tensor,
    name_odds: float,
    attention_mask: Tensor | None = None,
) -> Choice:
    """Return which pools a given context asks, by signature and, where names count, by name.

    Whether a name counts is `settle`d once the pools have read the context.

    Args:
        pools: their names.
        input_ids: (B, T).
        evidence: of every token.
        signatures: one a pool.
        lengths_B: how many tokens of each row are context.
        name_odds: what a named pool has beside its share; 0: names count for nothing.
        attention_mask: (B, T), 0 for padding.
    """
    means = context_means(evidence, lengths_B)
    asked_PB = asked_by_means(means, signatures).T
    if not name_odds:
        return Choice(tuple(pools), asked_PB.long() - 1)
    named_PB = named_by_context(
        input_ids, evidence.counted_BT, signatures, lengths_B, attention_mask
    )
    at_PB = (asked_PB | named_PB).long() - 1
    words_PB = _words_in_all(means).T
    named = Named(named_PB * name_odds, named_PB & ~asked_PB, torch.zeros_like(at_PB), words_PB)
    return Choice(tuple(pools), at_PB, named)


def _words_in_all(means: Means) -> Tensor:
    """Return the nats that words say in all, of each pool's segment for which they say most."""
    nats_BP = torch.zeros_like(means.log_odds_BP)
    for number, words_BS in enumerate(means.words):
        if words_BS.shape[-1]:
            nats_BP[..., number] = words_BS.amax(-1) * means.count_B1[..., 0]
    return nats_BP


def settle(
    choice: Choice,
    log_probs_QBT: Tensor,
    evidence_BT: Tensor,
    lengths_B: Tensor,
    base_BV: Tensor,
    pools_RV: Sequence[tuple[Tensor, Tensor]],
) -> Choice:
    """Return a choice as it is once the asked pools have read the context.

    A name counts only where its pool has something to say: where what it foresees after the context
    is far from what the base does, less far where the context's words are the domain's too. That
    the pool foresaw the context itself is no sign of it: it foresees its own names in any sentence.
    Nor is it one against it that it did not: so the odds enter before the context or after it,
    whichever leaves the pool more.

    Args:
        choice: of `choose_by_context`.
        log_probs_QBT: of the context's tokens, the base first.
        evidence_BT: which of them count.
        lengths_B: how many tokens of each row are context.
        base_BV: the base's logits after the context.
        pools_RV: a pool of the choice each: the rows that it read, and its logits after them.
    """
    if choice.named is None:
        return choice
    inside_BT = torch.arange(evidence_BT.shape[1], device=lengths_B.device) < lengths_B[:, None]
    lead_PBT = (log_probs_QBT[1:] - log_probs_QBT[:1]).double()
    lead_PB = torch.where(evidence_BT & inside_BT, lead_PBT, 0.0).cumsum(-1)[..., -1]
    has_say_PB = torch.zeros_like(choice.at_PB, dtype=torch.bool)
    for number, (rows, logits_RV) in enumerate(pools_RV):
        words_R = WORDS_SAY * choice.named.words_PB[number, rows]
        has_say_PB[number, rows] = divergence(logits_RV, base_BV[rows]) + words_R > SAY_NATS
    odds_PB = torch.where(has_say_PB, choice.named.odds_PB, 0.0)
    at_PB = torch.where(choice.named.alone_PB & ~has_say_PB, -1, choice.at_PB)
    odds_at_PB = torch.where(lead_PB >= 0, 0, lengths_B)
    settled = replace(choice.named, odds_PB=odds_PB, at_PB=odds_at_PB)
    return Choice(choice.pools, at_PB, settled)


def divergence(of_RV: Tensor, from_RV: Tensor) -> Tensor:
    """Return the KL divergence from the first logits' distributions to the second's, (R,), nats.

    Example:
        >>> sure, even = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> round(divergence(sure, even).item(), 4)
        0.6931
    """
    own_RV, other_RV = of_RV.float().log_softmax(-1), from_RV.float().log_softmax(-1)
    return (own_RV.exp() * (own_RV - other_RV)).sum(-1)
