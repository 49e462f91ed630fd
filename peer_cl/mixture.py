"""The Bayesian mixture of the base and the asked pools: shares, masses, weights.

Everything is in the log domain and fp64. A pool's mass depends on the base's evidence, its own, and
its own share, never on another pool; pools meet only where weights are made to add up to one.

Shape suffixes: P pools, Q = P + 1 with the base first, B rows, T tokens, U = T + 1 borders between
tokens (border i lies before token i).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from peer_cl.errors import InputError, ShapeError
from peer_cl.whole import real, whole

RUNS_ALONE = 0.99
"""A held weight above this one lets its branch run alone while the model writes."""


def share(budget: float, capacity: int) -> float:
    """Return one domain's share of the mixture's mass.

    It depends on the store's budget and capacity alone, never on how many domains there are, so
    that removing one changes nothing for the others.

    Raises:
        InputError: when the budget is outside (0, 1), or the capacity no whole number from 1 on:
            as many pools enter as it lets in, and two of a share of b / 1.5 take more than b.

    Example:
        >>> share(0.02, 16)
        0.00125
    """
    check_budget(budget, capacity)
    return budget / capacity


def check_budget(budget: Any, capacity: Any) -> None:
    """Refuse a budget or a capacity that cannot be; see `share`.

    Raises:
        InputError: with the value.
    """
    if not isinstance(budget, int | float) or not 0.0 < budget < 1.0:
        raise InputError(f"budget must lie between 0 and 1, not {budget!r}")
    if whole("capacity", capacity) < 1:
        raise InputError(f"capacity must be at least 1, not {capacity}")


def check_name_odds(name_odds: Any) -> float:
    """Refuse odds of names that cannot be; return them as a float.

    Raises:
        InputError: with the value.
    """
    if not 0.0 <= real("name_odds", name_odds) < math.inf:
        raise InputError(f"name_odds must be 0 or more, not {name_odds}")
    return float(name_odds)


def worst_added_nats(budget: float) -> float:
    """Return the most that any scored document can lose over the base, in nats.

    The base's unmoved share is never below 1 - budget, so the mixture gives every text at least
    (1 - budget) times the base's probability.

    Example:
        >>> round(worst_added_nats(0.02), 4)
        0.0202
    """
    return -math.log1p(-budget)


def named_bound_nats(budget: float, name_odds: float, num_named: int = 1) -> float:
    """Return the most that a context which names so many domains and what follows it, scored
    together, can lose over the base, in nats.

    What a name adds to a pool is not taken from the base but comes on top, so that no pool's mass
    depends on another, and weights are made to add up to one. Odds that enter where mass M stands
    beside the base's leave it M / (M + odds) of its weight, and M is at least 1 - b.

    Example:
        >>> round(named_bound_nats(0.02, 1.0), 4)
        0.7235
    """
    return worst_added_nats(budget) + num_named * math.log1p(name_odds / (1 - budget))


def log_masses(
    log_probs_QBT: Tensor,
    evidence_BT: Tensor,
    entries_PBU: Tensor,
    odds_PBU: Tensor | None = None,
) -> Tensor:
    """Return every branch's unnormalised log mass at every border between tokens.

    The base starts with all mass. When a pool is asked before token i, a share of the base's mass
    there moves to it; after that, each mass is multiplied by its own branch's probability of each
    token that is evidence. A share may enter in instalments.

    Args:
        log_probs_QBT: float, log probability of token i given those before it, base first.
        evidence_BT: bool, which tokens count.
        entries_PBU: float, the share that enters before token i; they add up to less than 1.
        odds_PBU: float, what enters before token i beside the share, as odds against a base that
            nobody took from; nothing is taken from the base for it. None: nothing.

    Returns:
        masses_QBU, fp64, -inf where a pool has not entered, and from the first token on where its
        log probability is not finite.

    Raises:
        ShapeError: when the three do not fit each other.

    Example: one pool with a share of a half, twice as likely as the base on one token, ends with
        twice the base's mass.
        >>> steps = torch.tensor([[[0.25]], [[0.5]]]).log()
        >>> entries = torch.tensor([[[0.5, 0.0]]])
        >>> masses = log_masses(steps, torch.tensor([[True]]), entries)
        >>> masses.exp()[:, 0, 1].round(decimals=6).tolist()
        [0.125, 0.25]
    """
    num_branches, num_rows, num_tokens = log_probs_QBT.shape
    if entries_PBU.shape != (num_branches - 1, num_rows, num_tokens + 1):
        raise ShapeError(
            f"entries have shape {tuple(entries_PBU.shape)}, not "
            f"{(num_branches - 1, num_rows, num_tokens + 1)}"
        )
    if evidence_BT.shape != (num_rows, num_tokens):
        raise ShapeError(
            f"evidence has shape {tuple(evidence_BT.shape)}, not {log_probs_QBT.shape}"
        )
    counted_QBT = torch.where(evidence_BT, log_probs_QBT.double(), 0.0)
    broken_PBT = broken_tokens(log_probs_QBT, evidence_BT)
    if broken_PBT is not None:
        counted_QBT[1:] = torch.where(broken_PBT, 0.0, counted_QBT[1:])
    evidence_QBU = torch.nn.functional.pad(counted_QBT.cumsum(-1), (1, 0))
    entries_PBU = entries_PBU.double()
    moved_BU = entries_PBU.cumsum(-1).sum(0)
    base_BU = evidence_QBU[0] + torch.log1p(-moved_BU)
    # Mass that entered at border e holds the base's evidence up to e and the pool's own after it.
    given_PBU = entries_PBU if odds_PBU is None else entries_PBU + odds_PBU.double()
    entered_PBU = given_PBU.log() + evidence_QBU[:1] - evidence_QBU[1:]
    shares_PBU = torch.logcumsumexp(entered_PBU, dim=-1)
    pools_PBU = evidence_QBU[1:] + shares_PBU
    if broken_PBT is not None:
        broken_PBU = torch.nn.functional.pad(broken_PBT, (1, 0))
        pools_PBU = torch.where(broken_PBU, -torch.inf, pools_PBU)
    return torch.cat([base_BU[None], pools_PBU])


def broken_tokens(log_probs_QBT: Tensor, evidence_BT: Tensor) -> Tensor | None:
    """Return where a pool was not finite at some token of evidence up to there: (P, B, T).

    A pool whose branch overflows says NaN, and one NaN would be the whole mixture's. From there on
    it has no mass; the base and the other pools keep theirs, and so the bound. What the base says
    is left alone, so that a base that overflows is seen.

    Returns: bool; None where all is finite.

    Example:
        >>> broken = torch.tensor([[[-1.0, -1.0, -1.0]], [[-2.0, torch.nan, -2.0]]])
        >>> broken_tokens(broken, torch.tensor([[True, True, True]])).tolist()
        [[[False, True, True]]]
    """
    broken_PBT = ~torch.isfinite(log_probs_QBT[1:]) & evidence_BT
    return broken_PBT.cumsum(-1) > 0 if bool(broken_PBT.any()) else None


def log_weights(masses_QBU: Tensor) -> Tensor:
    """Return the mixture's log weights: masses, made to add up to one.

    Example:
        >>> masses = torch.tensor([1.0, 3.0], dtype=torch.float64).log()
        >>> log_weights(masses).exp().round(decimals=6).tolist()
        [0.25, 0.75]
    """
    return masses_QBU - torch.logsumexp(masses_QBU, dim=0)


def mixture_log_probs(
    log_probs_QBT: Tensor,
    evidence_BT: Tensor,
    entries_PBU: Tensor,
    odds_PBU: Tensor | None = None,
) -> Tensor:
    """Return the mixture's log probability of every token.

    A token that is no evidence is predicted by the base alone, and so is every token before a pool
    has entered, in the base's own bits.

    Args:
        log_probs_QBT, evidence_BT, entries_PBU, odds_PBU: as for `log_masses`.

    Returns:
        (B, T), fp64. Over the tokens that are evidence, a row's sum is at least the base's sum
        plus log(1 - entered shares); with odds see `named_bound_nats`.

    Example:
        >>> steps = torch.tensor([[[0.25, 0.25]], [[0.5, 0.5]]]).log()
        >>> entries = torch.tensor([[[0.5, 0.0, 0.0]]])
        >>> evidence = torch.tensor([[True, True]])
        >>> round(mixture_log_probs(steps, evidence, entries).exp()[0, 0].item(), 6)
        0.375
    """
    masses_QBU = log_masses(log_probs_QBT, evidence_BT, entries_PBU, odds_PBU)
    steps_QBT = log_weights(masses_QBU)[..., :-1] + log_probs_QBT.double()
    broken_PBT = broken_tokens(log_probs_QBT, evidence_BT)
    if broken_PBT is not None:
        steps_QBT[1:] = torch.where(broken_PBT, -torch.inf, steps_QBT[1:])
    mixed_BT = torch.logsumexp(steps_QBT, dim=0)
    entered_BT = (entries_PBU.cumsum(-1).sum(0) > 0)[:, :-1]
    return torch.where(evidence_BT & entered_BT, mixed_BT, log_probs_QBT[0].double())


def mix_logits(
    base_BTV: Tensor, branches: dict[str, tuple[Tensor, Tensor]], weights_QBU: Tensor
) -> Tensor:
    """Return the log of the mixture's next-token probabilities, fp32.

    Args:
        base_BTV: the base's logits.
        branches: by pool, the rows that asked it and its logits there.
        weights_QBU: log weights, the base's and one row a pool of `branches`.
    """
    weights_QBT1 = weights_QBU[..., 1:, None].float()
    mixed_BTV = weights_QBT1[0] + base_BTV.float().log_softmax(-1)
    for weights_BT1, (rows, logits) in zip(weights_QBT1[1:], branches.values(), strict=True):
        said = weights_BT1[rows] + logits.float().log_softmax(-1)
        # What overflowed says nothing, here and where its mass does not show it yet.
        said = torch.where(said.isnan(), -torch.inf, said)
        mixed_BTV[rows] = torch.logaddexp(mixed_BTV[rows], said)
    return mixed_BTV


def enter_at(share_of_pool: float | Tensor, asked_at_PB: Tensor, num_tokens: int) -> Tensor:
    """Return entries for pools that are asked once, before a given token.

    Args:
        share_of_pool: one pool's share, or (P, B, 1) of each.
        asked_at_PB: int64; the border at which a pool enters a row, or -1 for never.
        num_tokens: T.

    Returns:
        entries_PBU, fp64.

    Example:
        >>> enter_at(0.1, torch.tensor([[1], [-1]]), 2).tolist()
        [[[0.0, 0.1, 0.0]], [[0.0, 0.0, 0.0]]]
    """
    borders_U = torch.arange(num_tokens + 1, device=asked_at_PB.device)
    return (asked_at_PB[..., None] == borders_U).double() * share_of_pool


def held_weights(masses_QB: Tensor, budget: float) -> Tensor:
    """Return the weights that are held while the model writes.

    Branches below max(0.01, 2 * budget), the base included, are dropped for this call and the rest
    renormalised; one above 0.99 runs alone. The heaviest branch always stays.

    Args:
        masses_QB: log masses at the end of the prompt, base first.
        budget: the store's.

    Returns:
        (Q, B), fp64, columns adding up to one; exactly 0 where a branch is dropped.

    Example:
        >>> held_weights(torch.tensor([[0.97], [0.02], [0.01]]).log(), 0.02).T.tolist()
        [[1.0, 0.0, 0.0]]
    """
    weights_QB = log_weights(masses_QB.double()).exp()
    top_QB = torch.nn.functional.one_hot(weights_QB.argmax(0), len(weights_QB)).T.to(weights_QB)
    dropped_QB = (weights_QB < max(0.01, 2 * budget)) & (top_QB == 0)
    kept_QB = torch.where(dropped_QB, 0.0, weights_QB)
    kept_QB = kept_QB / kept_QB.sum(0)
    alone_B = weights_QB.max(0).values > RUNS_ALONE
    return torch.where(alone_B, top_QB, kept_QB)
