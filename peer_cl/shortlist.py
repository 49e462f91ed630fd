"""Which pools a text asks: each pool's own decision, by its signature alone.

A decision is a threshold, never a top-n, so no pool's presence changes another's. Search over
centroids is passed in, so that an index may serve it. Where a signature has words, these decide,
and states count a little; where it has none, of an older store, states decide alone.

Shape suffixes: B rows, T tokens, D width, P pools, S segments of a pool that have words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from peer_cl.signature import Background, NearestSearch, Signature, nearest_distances
from peer_cl.words import LEAST_NATS

LEAK = 0.95
"""Weight that a token's evidence keeps from one token to the next: about 20 tokens of memory."""
MIN_TOKENS = 2
"""A text shorter than this asks no pool by signature."""

TRIED_TOKENS = 128
"""Who is asked token by token is tried at every token: the limits are those of so long a text."""
LEAST_NATS_TRIED = 2 * LEAST_NATS
"""What words have to say there in all: somewhere in a long text a few are a domain's. Each nat more
lets a pool enter a token later, and lets a tenth fewer other domains in."""

STATES_SHARE = 0.1
"""Nats of words that a nat of states is worth, where both decide: by how much log odds of states
pass what they would need alone, or fall short of it."""
MOST_OF_STATES = 5.0
"""Nats of states count up to so many, for a pool or against it."""


@dataclass(frozen=True)
class TokenEvidence:
    """What each token says about each pool, before any averaging."""

    log_odds_BTP: Tensor
    """Half the difference of squared distances to background and pool, each cut off as the pool's
    signature says; above 0 for the pool."""
    distance_BTP: Tensor
    """Squared distance to the pool's nearest centroid, divided by the width and cut off."""
    counted_BT: Tensor
    """Which tokens count: neither padding, special nor masked."""
    words: tuple[Tensor, ...] = ()
    """A pool each, (B, T, S): by how much likelier a token is in the texts of each segment that has
    words than in ordinary text, nats; S is 0 where states decide alone. Empty: for every pool."""


class Means(NamedTuple):
    """What texts say of each pool, the means of their tokens; more axes may stand in front of B."""

    log_odds_BP: Tensor
    distance_BP: Tensor
    """Squared, over the width."""
    count_B1: Tensor
    """Of how many tokens the states' means are taken to be."""
    words: tuple[Tensor, ...] = ()
    """As in `TokenEvidence`, without its axis of tokens."""
    words_count_B1: Tensor | None = None
    """Of how many tokens the words' means are, older ones counted by their weight; None: of as many
    as the states'."""
    least_nats: float = LEAST_NATS
    """What words have to say in all."""


def token_evidence(
    states_BTD: Tensor,
    input_ids: Tensor,
    counted_BT: Tensor,
    *,
    background: Background,
    signatures: Sequence[Signature],
    search: NearestSearch = nearest_distances,
) -> TokenEvidence:
    """Return the evidence of every token for every pool.

    Args:
        states_BTD: the base's hidden states at the signature layer.
        input_ids: (B, T).
        counted_BT: bool.
        background: the store's background statistics.
        signatures: one a pool.
        search: distances to the nearest centroid of each set.
    Cost: O(C*D) a token, C centroids in all.
    """
    # Centroids and the index over them stay on the CPU, wherever the base runs; who is asked is a
    # decision, through which no gradient goes.
    white_XD = background.whiten(states_BTD.detach().flatten(0, 1)).cpu()
    log_odds_XP, distance_XP = white_evidence(white_XD, background, signatures, search)
    shape, device = states_BTD.shape[:2], counted_BT.device
    return TokenEvidence(
        log_odds_XP.unflatten(0, shape).to(device),
        distance_XP.unflatten(0, shape).to(device),
        counted_BT,
        _words(input_ids, background, signatures),
    )


def _words(
    input_ids: Tensor, background: Background, signatures: Sequence[Signature]
) -> tuple[Tensor, ...]:
    """Return what each token says of each pool's words; nothing where no pool has any."""
    if background.words is None or not any(one.words for one in signatures):
        return ()
    ids_BT = input_ids.cpu()
    likelihood_BT = background.words.likelihood(ids_BT)
    none_BT0 = likelihood_BT.new_zeros((*ids_BT.shape, 0))
    found = [
        torch.stack([words.log_odds(ids_BT, likelihood_BT) for words in one.words], -1)
        if one.words
        else none_BT0
        for one in signatures
    ]
    return tuple(odds_BTS.to(input_ids.device) for odds_BTS in found)


def white_evidence(
    white_XD: Tensor,
    background: Background,
    signatures: Sequence[Signature],
    search: NearestSearch = nearest_distances,
) -> tuple[Tensor, Tensor]:
    """Return each whitened state's log odds for each pool, and distance over the width: (X, P).

    Args: as for `token_evidence`.
    """
    width = white_XD.shape[-1]
    most_P = white_XD.new_tensor([signature.cutoff * width for signature in signatures])
    pools_XP = search(white_XD, [signature.centroids_CD for signature in signatures])
    base_X1 = nearest_distances(white_XD, [background.centroids_CD])
    pools_XP, base_XP = pools_XP.minimum(most_P), base_X1.minimum(most_P)
    return 0.5 * (base_XP - pools_XP), pools_XP / width


def leaky_mean(values_BTP: Tensor, counted_BT: Tensor, leak: float = LEAK) -> Tensor:
    """Return, at each token, the mean of what was counted so far, older tokens weighing less.

    Args:
        values_BTP: float.
        counted_BT: bool; other tokens neither add nor make older ones fade.
        leak: 1 is the plain running mean.

    Example:
        >>> values = torch.tensor([[[1.0], [9.0], [4.0]]])
        >>> leaky_mean(values, torch.tensor([[True, False, True]]), 0.5)[0, :, 0].tolist()
        [1.0, 1.0, 3.0]
    """
    total_BTP = _leaky_sum(values_BTP, counted_BT, leak)
    weight_BT1 = _leaky_sum(torch.ones_like(values_BTP[..., :1]), counted_BT, leak)
    return total_BTP / weight_BT1.clamp_min(1e-9)


def _leaky_means(parts: Sequence[Tensor], counted_BT: Tensor) -> tuple[Tensor, ...]:
    """Return `leaky_mean` of each, in one walk over the tokens: pools may be many."""
    if not parts:
        return ()
    means_BTS = leaky_mean(torch.cat(list(parts), -1), counted_BT)
    return tuple(torch.split(means_BTS, [one.shape[-1] for one in parts], -1))


def _leaky_sum(values_BTP: Tensor, counted_BT: Tensor, leak: float = LEAK) -> Tensor:
    total_BP, totals = torch.zeros_like(values_BTP[:, 0]), []
    for token in range(values_BTP.shape[1]):
        counts_B1 = counted_BT[:, token, None]
        total_BP = torch.where(counts_B1, leak * total_BP + values_BTP[:, token], total_BP)
        totals.append(total_BP)
    return torch.stack(totals, 1)


def asked_by_context(
    evidence: TokenEvidence, signatures: Sequence[Signature], lengths_B: Tensor
) -> Tensor:
    """Return which pools a given context asks, judged by all of it: bool (P, B).

    Args:
        evidence: of every token.
        signatures: one a pool.
        lengths_B: how many tokens of each row are context.
    """
    return asked_by_means(context_means(evidence, lengths_B), signatures).T


def needed_log_odds(
    evidence: TokenEvidence, signatures: Sequence[Signature], lengths_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a context's mean log odds, and those from which on one like it asks each pool.

    Like it: of as many tokens, with states as near the pool's. The log odds are those of words
    where the pool has any, of the segment that is nearest to being asked; else those of states.

    Args: as for `asked_by_context`.
    Returns: both fp64, (B, P), nats a token; a pool is asked where the first reaches the second,
        which is +inf where no log odds would do.
    """
    return _needed(context_means(evidence, lengths_B), signatures)


def context_means(evidence: TokenEvidence, lengths_B: Tensor) -> Means:
    """Return the means over a given context; args as for `asked_by_context`."""
    num_tokens = evidence.counted_BT.shape[1]
    inside_BT = torch.arange(num_tokens, device=lengths_B.device) < lengths_B[:, None]
    counted_BT1 = (evidence.counted_BT & inside_BT)[..., None]
    return Means(
        _mean(evidence.log_odds_BTP, counted_BT1),
        _mean(evidence.distance_BTP, counted_BT1),
        counted_BT1.sum(1),
        tuple(_mean(odds_BTS, counted_BT1) for odds_BTS in evidence.words),
    )


def asked_by_means(means: Means, signatures: Sequence[Signature]) -> Tensor:
    """Return which pools are asked by texts of which these are the means: bool, (..., P).

    Args:
        means: of the texts.
        signatures: one a pool.
    """
    log_odds_BP, needed_BP = _needed(means, signatures)
    return log_odds_BP >= needed_BP


def _needed(means: Means, signatures: Sequence[Signature]) -> tuple[Tensor, Tensor]:
    """Return means of log odds, and from which on such a text asks each pool."""
    log_odds_BP, needed_BP = _needed_of_states(means, signatures)
    if means.words:
        weight_B1 = means.count_B1 if means.words_count_B1 is None else means.words_count_B1
        lead_BP = (log_odds_BP - needed_BP).clamp(-MOST_OF_STATES, MOST_OF_STATES)
        columns = [
            _needed_of_words(words_BS, signature, lead_B, weight_B1, means.least_nats)
            if words_BS.shape[-1]
            else (states_B, needed_B)
            for words_BS, signature, lead_B, states_B, needed_B in zip(
                means.words,
                signatures,
                lead_BP.unbind(-1),
                log_odds_BP.unbind(-1),
                needed_BP.unbind(-1),
                strict=True,
            )
        ]
        log_odds_BP, needed_BP = (torch.stack(one, -1) for one in zip(*columns, strict=True))
    return log_odds_BP, needed_BP.masked_fill(means.count_B1 < MIN_TOKENS, torch.inf)


def _needed_of_words(
    words_BS: Tensor, signature: Signature, lead_B: Tensor, weight_B1: Tensor, least_nats: float
) -> tuple[Tensor, Tensor]:
    """Return the mean, and what it has to be, of the segment whose words are nearest to asking."""
    least_S = words_BS.new_tensor([words.threshold for words in signature.words])
    mean_BS = least_S - STATES_SHARE * lead_B[..., None]
    needed_BS = torch.maximum(mean_BS, least_nats / weight_B1.clamp_min(1))
    nearest_B1 = (words_BS - needed_BS).argmax(-1, keepdim=True)
    own_B1, needed_B1 = (one.gather(-1, nearest_B1) for one in (words_BS, needed_BS))
    return own_B1.squeeze(-1), needed_B1.squeeze(-1)


def _needed_of_states(means: Means, signatures: Sequence[Signature]) -> tuple[Tensor, Tensor]:
    """Return mean log odds of states, and what would do were they alone; no signature asks more
    of them than its threshold and its fit do, but nothing does too far out."""
    limits = _limits(means.log_odds_BP, signatures, means.count_B1)
    unfit_BP = _fits(torch.zeros_like(means.log_odds_BP), means.distance_BP, signatures)
    needed_BP = torch.maximum(limits.threshold_P, limits.fit_BP - unfit_BP)
    too_far_BP = means.distance_BP > limits.distance_BP
    return means.log_odds_BP, needed_BP.masked_fill(too_far_BP, torch.inf)


class _Limits(NamedTuple):
    """What means have to reach, or may not pass, to ask each pool."""

    threshold_P: Tensor
    fit_BP: Tensor
    distance_BP: Tensor


def _limits(like: Tensor, signatures: Sequence[Signature], count_B1: Tensor) -> _Limits:
    """Return the limits of means over so many tokens: those of few tokens are told more loosely."""

    def told(values: Iterable[float]) -> Tensor:
        return like.new_tensor(list(values))

    root_B1 = count_B1.clamp_min(1).to(like.dtype).sqrt()
    least_P = told(one.least_fit for one in signatures)
    fit_slacks_P = told(one.fit_slack for one in signatures)
    farthest_P = told(one.max_distance for one in signatures)
    slacks_P = told(one.slack for one in signatures)
    return _Limits(
        threshold_P=told(one.threshold for one in signatures),
        fit_BP=least_P - fit_slacks_P / root_B1,
        distance_BP=farthest_P * (1 + slacks_P / root_B1),
    )


def _fits(log_odds_BP: Tensor, distance_BP: Tensor, signatures: Sequence[Signature]) -> Tensor:
    pairs = zip(signatures, log_odds_BP.unbind(-1), distance_BP.unbind(-1), strict=True)
    return torch.stack([one.fit_of(odds_B, far_B) for one, odds_B, far_B in pairs], -1)


def _mean(values_BTP: Tensor, counted_BT1: Tensor) -> Tensor:
    """Return the mean of what counts, fp64.

    A running sum has one order whatever the number of pools; `sum` chooses one by the layout, and
    a decision at the very threshold would depend on which other pools there are.
    """
    totals_BTP = torch.where(counted_BT1, values_BTP.double(), 0.0).cumsum(1)
    return totals_BTP[:, -1] / counted_BT1.sum(1).clamp_min(1)


def asked_at_token(evidence: TokenEvidence, signatures: Sequence[Signature]) -> Tensor:
    """Return before which token each pool enters a text that has no context: int64 (P, B).

    The decision after token i uses tokens 0..i alone; -1 where a pool never enters.
    """
    counted_BT = evidence.counted_BT
    count_BT1 = counted_BT.cumsum(1)[..., None]
    of_states = (evidence.log_odds_BTP, evidence.distance_BTP)
    log_odds_BTP, distance_BTP = _leaky_means(of_states, counted_BT)
    means = Means(
        log_odds_BTP,
        distance_BTP,
        torch.where(count_BT1 >= MIN_TOKENS, TRIED_TOKENS, 0),
        _leaky_means(evidence.words, counted_BT),
        _leaky_sum(torch.ones_like(count_BT1, dtype=torch.float64), counted_BT),
        LEAST_NATS_TRIED,
    )
    asked_BTP = asked_by_means(means, signatures)
    first_BP = asked_BTP.int().argmax(1)
    return torch.where(asked_BTP.any(1), first_BP + 1, -1).T
