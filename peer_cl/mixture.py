"""The Bayesian mixture of the base and the active pools: prior, log masses, posterior.

Everything is in the log domain and fp64. A pool's mass depends on the base's log probabilities, its
own and its own prior, never on another pool; pools meet only where the posterior is made to add up
to one.

Shape suffixes: P domains, Q = P + 1 branches with the base first, B rows, R rows of one branch,
T tokens, U = T + 1 borders between tokens (border i lies before token i), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from peer_cl.errors import InputError


def domain_prior(budget: float, capacity: int) -> float:
    """Return one domain's prior in scored text.

    It depends on the store's budget and capacity alone, never on how many domains there are, so
    that removing one changes nothing for the others.

    Example:
        >>> domain_prior(0.02, 16)
        0.00125
    """
    if not 0.0 < budget < 1.0:
        raise InputError(f"budget must lie between 0 and 1, not {budget}")
    if capacity < 1 or capacity != int(capacity):
        raise InputError(f"capacity must be a whole number from 1 on, not {capacity}")
    return budget / capacity


def worst_added_nats(budget: float) -> float:
    """Return the most that any scored document can lose over the base, in nats.

    The base's own prior is never below 1 - budget, so the mixture gives every text at least
    (1 - budget) times the base's probability.

    Example:
        >>> round(worst_added_nats(0.02), 4)
        0.0202
    """
    return -math.log1p(-budget)


def answer_bound_nats(budget: float, num_found: int = 1) -> float:
    """Return the most that a prompt, which asks for items of so many domains, and its answer,
    scored together, can lose over the base, in nats.

    Each such domain has the base's own weight at the prompt's end; it is not taken from the base
    but comes on top, so that no domain's mass depends on another. Of the base's mass at least 1 - b
    is its own there.

    Example:
        >>> round(answer_bound_nats(0.02), 4), round(answer_bound_nats(0.02, 2), 4)
        (0.7235, 1.1323)
    """
    return worst_added_nats(budget) + math.log1p(num_found / (1 - budget))


def enter_at(prior: float | Tensor, at_PB: Tensor, num_tokens: int) -> Tensor:
    """Return entries_PBU, fp64, for domains that become active once, before a given token.

    Args:
        prior: one domain's, or (P, B, 1) of each.
        at_PB: int64; the border at which a domain enters a row, or -1 for never.
        num_tokens: T.

    Example:
        >>> enter_at(0.1, torch.tensor([[1], [-1]]), 2).tolist()
        [[[0.0, 0.1, 0.0]], [[0.0, 0.0, 0.0]]]
    """
    borders_U = torch.arange(num_tokens + 1, device=at_PB.device)
    return (at_PB[..., None] == borders_U).double() * prior


def log_masses(
    log_probs_QBT: Tensor, evidence_BT: Tensor, entries_PBU: Tensor, odds_PBU: Tensor | None = None
) -> Tensor:
    """Return every branch's unnormalised log mass at every border between tokens.

    The base starts with all mass. When a domain becomes active before token i, its prior's share of
    the base's mass there moves to it; after that, each mass is multiplied by its own branch's
    probability of each token that is evidence. A prior may enter in instalments.

    Args:
        log_probs_QBT: log probability of token i given those before it, base first.
        evidence_BT: bool, which tokens count.
        entries_PBU: the prior that enters before token i; they add up to less than 1.
        odds_PBU: what enters before token i beside the prior, as odds against the base; nothing is
            taken from the base for it.

    Returns:
        masses_QBU, fp64, -inf where a domain has not entered, and from the first token on where its
        branch overflowed (its log probability is not finite).

    Example: one domain with a prior of a half, twice as likely as the base on one token, ends with
        twice the base's mass.
        >>> steps = torch.tensor([[[0.25]], [[0.5]]]).log()
        >>> entries = torch.tensor([[[0.5, 0.0]]])
        >>> masses = log_masses(steps, torch.tensor([[True]]), entries)
        >>> masses.exp()[:, 0, 1].round(decimals=6).tolist()
        [0.125, 0.25]
    """
    counted_QBT = torch.where(evidence_BT, log_probs_QBT.double(), 0.0)
    overflowed_PBT = overflowed_tokens(log_probs_QBT, evidence_BT)
    counted_QBT[1:] = torch.where(overflowed_PBT, 0.0, counted_QBT[1:])
    evidence_QBU = torch.nn.functional.pad(counted_QBT.cumsum(-1), (1, 0))
    entries_PBU = entries_PBU.double()
    moved_BU = entries_PBU.cumsum(-1).sum(0)
    base_BU = evidence_QBU[0] + torch.log1p(-moved_BU)
    # Mass that entered at border e holds the base's evidence up to e and the branch's own after it.
    given_PBU = entries_PBU if odds_PBU is None else entries_PBU + odds_PBU.double()
    entered_PBU = given_PBU.log() + evidence_QBU[:1] - evidence_QBU[1:]
    domains_PBU = evidence_QBU[1:] + torch.logcumsumexp(entered_PBU, dim=-1)
    overflowed_PBU = torch.nn.functional.pad(overflowed_PBT, (1, 0))
    domains_PBU = torch.where(overflowed_PBU, -torch.inf, domains_PBU)
    return torch.cat([base_BU[None], domains_PBU])


def overflowed_tokens(log_probs_QBT: Tensor, evidence_BT: Tensor) -> Tensor:
    """Return where a branch was not finite at some token of evidence up to there: bool (P, B, T).

    One NaN of a branch would be the whole mixture's. From there on the branch has no mass; the base
    and the other branches keep theirs, and so the bound. The base's own overflow is left alone, so
    that it is seen.
    """
    return (~torch.isfinite(log_probs_QBT[1:]) & evidence_BT).cumsum(-1) > 0


def log_posterior(masses_QBU: Tensor) -> Tensor:
    """Return the branches' log posterior: masses, made to add up to one."""
    return masses_QBU - torch.logsumexp(masses_QBU, dim=0)


def mixture_log_probs(
    log_probs_QBT: Tensor, evidence_BT: Tensor, entries_PBU: Tensor, odds_PBU: Tensor | None = None
) -> Tensor:
    """Return the mixture's log probability of every token.

    A token that is no evidence is predicted by the base alone, and so is every token before a
    domain has entered, in the base's own bits.

    Returns:
        (B, T), fp64. Over the tokens that are evidence, a row's sum is at least the base's sum
        plus log(1 - entered priors); with odds see `answer_bound_nats`.

    Example:
        >>> steps = torch.tensor([[[0.25, 0.25]], [[0.5, 0.5]]]).log()
        >>> entries = torch.tensor([[[0.5, 0.0, 0.0]]])
        >>> evidence = torch.tensor([[True, True]])
        >>> round(mixture_log_probs(steps, evidence, entries).exp()[0, 0].item(), 6)
        0.375
    """
    masses_QBU = log_masses(log_probs_QBT, evidence_BT, entries_PBU, odds_PBU)
    steps_QBT = log_posterior(masses_QBU)[..., :-1] + log_probs_QBT.double()
    overflowed_PBT = overflowed_tokens(log_probs_QBT, evidence_BT)
    steps_QBT[1:] = torch.where(overflowed_PBT, -torch.inf, steps_QBT[1:])
    mixed_BT = torch.logsumexp(steps_QBT, dim=0)
    entered_BT = (entries_PBU.cumsum(-1).sum(0) > 0)[:, :-1]
    return torch.where(evidence_BT & entered_BT, mixed_BT, log_probs_QBT[0].double())


def mix_logits(
    base_BTV: Tensor, branches: Iterable[tuple[Tensor, Tensor]], log_posterior_QBU: Tensor
) -> Tensor:
    """Return the log of the mixture's next-token probabilities, fp32.

    Args:
        base_BTV: the base's logits.
        branches: of each domain, the rows that it read, (R,), and its logits there, (R, T, V).
        log_posterior_QBU: of the base and of these domains, in their order.
    """
    weights_QBT1 = log_posterior_QBU[..., 1:, None].float().to(base_BTV.device)
    # In place where it can be: a tensor of all logits takes longer to make than to fill.
    mixed_BTV = base_BTV.float().log_softmax(-1).add_(weights_QBT1[0])
    for weights_BT1, (rows_R, logits_RTV) in zip(weights_QBT1[1:], branches, strict=True):
        own_RTV = logits_RTV.float().log_softmax(-1).add_(weights_BT1[rows_R])
        # An overflow adds nothing, here and where the branch's mass does not show it yet.
        own_RTV.nan_to_num_(-torch.inf, torch.inf, -torch.inf)
        if len(rows_R) == len(mixed_BTV):
            torch.logaddexp(mixed_BTV, own_RTV, out=mixed_BTV)
        else:
            mixed_BTV[rows_R] = torch.logaddexp(mixed_BTV[rows_R], own_RTV)
    return mixed_BTV
