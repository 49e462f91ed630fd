"""Reading a text: the base once, the router, and a branch of each active domain.

Scores, logits, the weights that a prompt gives, traces and evaluations are views of one `Reading`.
Ids may lie anywhere; logits and states lie where the base does. What is decided and mixed, in fp64,
is on the CPU: a few numbers a token, and not every device has fp64.

Shape suffixes: Q branches with the base first, P domains, B rows, R rows of one branch, T tokens,
U = T + 1 borders between tokens, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from peer_cl.bases import context_length
from peer_cl.errors import InputError, ShapeError, StateError
from peer_cl.hooks import Hooks, Seen, Watch
from peer_cl.items import FoundItem, ItemIndex, RelationStates, joint_index
from peer_cl.mixture import enter_at, log_masses, log_posterior, mix_logits, mixture_log_probs
from peer_cl.pool import pool_names
from peer_cl.router import (
    Background,
    NearestSearch,
    RouterKey,
    Routing,
    find_by_prompt,
    find_causally,
    possible_domains,
    token_evidence,
)

ROUTINGS = ("causal", "prompt", "all")
"""How a text's domains are found: each when its key matches what was read so far; those whose key
matches the whole prompt, from its first token on; or every active pool from the first token on."""


class Reader(Protocol):
    """What `read` needs of a model; `PeerModel` documents it."""

    hooks: Hooks
    background: Background | None
    search: NearestSearch
    special_ids: Tensor
    prior: float

    @property
    def active_pools(self) -> tuple[str, ...]:
        """The pools that may be active, in the order of their names."""

    def key(self, name: str) -> RouterKey | None:
        """Return the key by which the router finds a pool's texts."""

    def items(self, name: str) -> ItemIndex | None:
        """Return a pool's items; None where it has none."""

    def lowest_layer(self, name: str) -> int:
        """Return the lowest decoder layer that carries experts of a pool."""

    def branch(
        self, name: str, watch: Watch | None = None, items_BT: Tensor | None = None
    ) -> AbstractContextManager[None]:
        """Run the base as one pool's branch inside, with these of its items active."""

    def check_active(self, names: Sequence[str]) -> None:
        """Refuse names of pools that do not exist or are not active."""


@dataclass(frozen=True)
class Reading:
    """What the base and every active domain make of a batch of texts. Log probabilities in nats."""

    domains: tuple[str, ...]
    """The domains that read some row, in the order of the branches after the base."""
    input_ids: Tensor
    """(B, T)."""
    evidence_BT: Tensor
    """bool; which tokens are predicted and counted."""
    state_BTD: Tensor
    """The base's, after the state layer."""
    log_probs_QBT: Tensor
    """fp64; token i given those before it. Zeros in rows that a branch did not read."""
    entries_PBU: Tensor
    """fp64; the prior with which a domain enters before each token."""
    odds_PBU: Tensor | None
    """fp64; what enters before each token beside the prior, as odds against the base: 1 behind a
    prompt that asks for one of the domain's items."""
    mixes_BT: Tensor
    """bool; whether the next token may be the mixture's: False where the caller masked it."""
    items: Mapping[str, Sequence[FoundItem]] = field(default_factory=dict)
    """By domain, the items that were found, each by its number in the pool."""
    base_logits_BTV: Tensor | None = None
    """The base's logits, in its own bits; kept on request, as are those of the branches."""
    branch_logits: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By domain, the rows that it read, (R,), on the CPU, and its logits there, (R, T, V)."""

    @cached_property
    def posterior_QBU(self) -> Tensor:
        """The branches' weights at each border, adding up to one; fp64."""
        return self._log_posterior_QBU.exp()

    @cached_property
    def _log_posterior_QBU(self) -> Tensor:
        return log_posterior(
            log_masses(self.log_probs_QBT, self.evidence_BT, self.entries_PBU, self.odds_PBU)
        )

    @cached_property
    def writers_B(self) -> Tensor:
        """The branch that writes on from each row, greedily: int64, its place, the base's is 0.

        Of the domains whose facts a prompt asks for, the one with the best score; else of those
        whose passages it repeats; else the branch with the heaviest posterior.
        """
        writers_B = self.posterior_QBU[..., -1].argmax(0)
        best: dict[int, tuple[bool, float]] = {}
        for place, domain in enumerate(self.domains, 1):
            for one in self.items.get(domain, ()):
                score = (not one.is_passage, one.score)
                if score > best.get(one.row, (False, -torch.inf)):
                    best[one.row] = score
                    writers_B[one.row] = place
        return writers_B

    @cached_property
    def mixture_log_probs_BT(self) -> Tensor:
        """The mixture's log probability of every token, the base's own where none is active."""
        return mixture_log_probs(
            self.log_probs_QBT, self.evidence_BT, self.entries_PBU, self.odds_PBU
        )

    @cached_property
    def base_BT(self) -> Tensor:
        """The base's log probabilities, 0 where a token is not counted."""
        return torch.where(self.evidence_BT, self.log_probs_QBT[0], 0.0)

    @cached_property
    def mixture_BT(self) -> Tensor:
        """The mixture's log probabilities, 0 where a token is not counted."""
        return torch.where(self.evidence_BT, self.mixture_log_probs_BT, 0.0)

    @cached_property
    def added_nats_B(self) -> Tensor:
        """What each text loses over the base, in nats; positive = worse than the base."""
        return self.base_BT.sum(-1) - self.mixture_BT.sum(-1)

    @cached_property
    def logits_BTV(self) -> Tensor:
        """The mixture's logits, fp32: log probabilities where a domain has entered, else the base's
        own. In the base's type and bits where no domain enters any row.
        """
        base_BTV = self.base_logits_BTV
        if base_BTV is None:
            raise StateError("this reading kept no logits: read with keep_logits=True")
        entered_BT = (self.entries_PBU.cumsum(-1).sum(0) > 0)[:, 1:]
        if not bool(entered_BT.any()):
            return base_BTV
        branches = [self.branch_logits[domain] for domain in self.domains]
        mixed_BTV = mix_logits(base_BTV, branches, self._log_posterior_QBU)
        bare_BT = ~(entered_BT & self.mixes_BT).to(base_BTV.device)
        mixed_BTV[bare_BT] = base_BTV[bare_BT].float()
        return mixed_BTV


@torch.no_grad()
def read(
    model: Reader,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    routing: str = "causal",
    domains: str | Sequence[str] | None = None,
    evidence_mask: Tensor | None = None,
    prompt_lengths: Tensor | None = None,
    watch: Watch | None = None,
    keep_logits: bool = False,
    with_items: bool = True,
) -> Reading:
    """Return what the base, and each domain in the rows where it is active, make of texts.

    Args:
        model: a `PeerModel`.
        input_ids: (B, T); one text a row.
        attention_mask: (B, T), 0 for padding.
        position_ids: (B, T) or (1, T); default: the model's own, from 0 at each row's first token.
        routing: one of ROUTINGS.
        domains: oracle routing: these domains (or this one), and no others, are active from the
            first token on; of a prompt, the item that it asks for most, whatever its score.
        evidence_mask: (B, T), False for text that is no evidence; the base alone predicts it.
        prompt_lengths: (B,), for routing="prompt": how many tokens are the prompt,
            padding not counted; default: all.
        watch: called with what each segment of a branch reads; see `peer_cl.hooks`.
        keep_logits: keep every branch's logits; else those that are needed are dropped at once.
        with_items: False: no item is active; what is read is what it would be without them.

    Raises:
        InputError: for an unknown routing, or a text longer than the base's context.
        ShapeError: when ids or masks are not (B, T).
        UnknownError: for an unknown domain. StateError: for one that is not active, or keys without
            background statistics.

    Cost: one pass of the base, and one more over its rows for each active domain.
    """
    base, num_tokens = model.hooks.base, input_ids.shape[-1]
    check_text(base, input_ids, attention_mask, evidence_mask)
    device = model.hooks.device
    input_ids = input_ids.cpu()
    attention_mask, position_ids, evidence_mask, prompt_lengths = (
        None if one is None else one.cpu()
        for one in (attention_mask, position_ids, evidence_mask, prompt_lengths)
    )
    if position_ids is None:
        position_ids = left_padded_positions(base, attention_mask)

    def logits_of(rows: Any) -> Tensor:
        """Call the model as a user would; positions that nobody gave are the model's own."""
        given = {}
        if position_ids is not None:
            places = position_ids[rows] if len(position_ids) > 1 else position_ids
            given["position_ids"] = places.to(device)
        mask = None if attention_mask is None else attention_mask[rows].to(device)
        ids = input_ids[rows].to(device)
        output = base(input_ids=ids, attention_mask=mask, use_cache=False, **given)
        logits_RTV: Tensor = output.logits
        return logits_RTV

    named = None if domains is None else pool_names(domains)
    if named is not None:
        model.check_active(named)
    active = tuple(n for n in model.active_pools if named is None or n in named)
    indexes = {name: index for name in active if (index := model.items(name)) is not None}
    if not with_items:
        indexes = {}
    space = None if model.background is None else model.background.relations
    layers = space.layers if space is not None and indexes else ()
    # Below its pool's experts a branch would read what the base has read.
    lowest = min((model.lowest_layer(name) for name in active), default=0)
    kept = {*layers, lowest - 1} - {-1}
    with model.hooks.bare(keep_states=sorted(kept)) as seen:
        base_BTV = logits_of(slice(None))
    present_BT = (
        torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
    )
    evidence_BT = evidence_tokens(input_ids, present_BT, model.special_ids, evidence_mask)
    ends_B = prompt_ends(prompt_lengths, present_BT)
    is_prompt = routing == "prompt"
    text = _Text(input_ids, present_BT, evidence_BT, ends_B)
    items = _find_items(model, indexes, text, seen, routing, is_given=named is not None)
    is_routed = named is None and routing != "all"
    routed = _route(
        model, active, seen.state_BTD, input_ids, evidence_BT, ends_B, routing, is_routed=is_routed
    )
    asked_PB = torch.zeros_like(routed.at_PB, dtype=torch.float64)
    for place, name in enumerate(routed.domains):
        for one in items.get(name, ()):
            at = int(routed.at_PB[place, one.row])
            border = int(ends_B[one.row]) if is_prompt else one.at + 1
            routed.at_PB[place, one.row] = border if at < 0 else min(at, border)
            asked_PB[place, one.row] = float(is_prompt)
    is_found_P = (routed.at_PB >= 0).any(1)
    found = [name for name, is_found in zip(routed.domains, is_found_P, strict=True) if is_found]
    routed, asked_PB = routed.of(found), asked_PB[is_found_P]

    log_probs = [token_log_probs(base_BTV, input_ids)]
    kept_BTV = base_BTV if keep_logits else None
    del base_BTV  # a branch's logits take as much memory again
    branch_logits: dict[str, tuple[Tensor, Tensor]] = {}
    for domain, at_B in zip(routed.domains, routed.at_PB, strict=True):
        rows_R = (at_B >= 0).nonzero().squeeze(-1)
        items_RT = None
        if own := items.get(domain):
            items_RT = indexes[domain].active(own, input_ids.shape, is_prompt)[rows_R]
        with ExitStack() as stack:
            stack.enter_context(model.branch(domain, watch, items_RT))
            if lowest:
                states_RTD = seen.states[lowest - 1][rows_R.to(device)]
                stack.enter_context(model.hooks.above(lowest, states_RTD))
            logits_RTV = logits_of(rows_R)
        own_BT = torch.zeros_like(log_probs[0])
        own_BT[rows_R] = token_log_probs(logits_RTV, input_ids[rows_R])
        log_probs.append(own_BT)
        if keep_logits:
            branch_logits[domain] = rows_R, logits_RTV
    mixes_BT = torch.ones_like(evidence_BT)
    if evidence_mask is not None:
        mixes_BT[:, :-1] = evidence_mask[:, 1:].bool()
    odds_PBU = None
    if bool(asked_PB.any()):
        odds_PBU = enter_at(asked_PB[..., None], ends_B.expand_as(routed.at_PB), num_tokens)
    return Reading(
        domains=routed.domains,
        input_ids=input_ids,
        evidence_BT=evidence_BT,
        state_BTD=seen.state_BTD,
        log_probs_QBT=torch.stack(log_probs),
        entries_PBU=enter_at(model.prior, routed.at_PB, num_tokens),
        odds_PBU=odds_PBU,
        mixes_BT=mixes_BT,
        items=items,
        base_logits_BTV=kept_BTV,
        branch_logits=branch_logits,
    )


class _Text(NamedTuple):
    """A batch of texts as they are searched for items."""

    ids_BT: Tensor
    present_BT: Tensor
    evidence_BT: Tensor
    ends_B: Tensor
    """Where each row's prompt ends."""


def _find_items(
    model: Reader,
    indexes: Mapping[str, ItemIndex],
    text: _Text,
    seen: Seen,
    routing: str,
    *,
    is_given: bool,
) -> dict[str, list[FoundItem]]:
    """Return what texts ask for or repeat, by domain."""
    items: dict[str, list[FoundItem]] = {}
    if not indexes:
        return items
    names, joint = [*indexes], joint_index([*indexes.values()])
    is_prompt = routing == "prompt"
    ends = text.ends_B if is_prompt else None
    if model.background is not None:
        told_BT = model.background.words.nats(text.ids_BT)
        for place in joint.repeated(text.ids_BT, told_BT, is_prompt=is_prompt, is_given=is_given):
            items[names[place]] = indexes[names[place]].passages(
                text.ids_BT, text.evidence_BT, told_BT, ends, is_given=is_given
            )
    space = None if model.background is None else model.background.relations
    if space is None:
        return items
    states = RelationStates(space, seen.states, text.evidence_BT, text.present_BT)
    for place in joint.named(text.ids_BT):
        name, index = names[place], indexes[names[place]]
        # One that is named, and asked for too little, does not stand in a passage's way.
        known = items.setdefault(name, [])
        repeating = {one.row for one in known}
        known += [
            one
            for one in index.find(states, text.ids_BT, ends, is_given=is_given and is_prompt)
            if one.score >= space.threshold or one.row not in repeating
        ]
    return items


@torch.no_grad()
def relation_states(
    model: Reader, input_ids: Tensor, attention_mask: Tensor | None = None
) -> RelationStates | None:
    """Return where texts lie in the base's space of relations, without any branch.

    None where the model has no such space. Args as for `read`; padding stands on the right.
    """
    space = None if model.background is None else model.background.relations
    if space is None:
        return None
    device = model.hooks.device
    mask_BT = None if attention_mask is None else attention_mask.to(device)
    with model.hooks.bare(keep_states=space.layers) as seen:
        model.hooks.base(input_ids=input_ids.to(device), attention_mask=mask_BT, use_cache=False)
    present_BT = (
        torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
    )
    evidence_BT = evidence_tokens(input_ids, present_BT, model.special_ids)
    return RelationStates(space, seen.states, evidence_BT, present_BT)


def _route(
    model: Reader,
    names: tuple[str, ...],
    state_BTD: Tensor,
    input_ids: Tensor,
    evidence_BT: Tensor,
    ends_B: Tensor,
    routing: str,
    *,
    is_routed: bool,
) -> Routing:
    """Return from where on domains are active in each row, as far as their texts' keys tell.

    All of them are from the first token on where they are not `is_routed`.
    """
    if routing not in ROUTINGS:
        raise InputError(f"routing must be one of {', '.join(ROUTINGS)}, not {routing!r}")
    at_PB = evidence_BT.new_zeros((len(names), len(evidence_BT))).long()
    if not is_routed:
        return Routing(names, at_PB)
    at_PB -= 1
    keys = {name: key for name in names if (key := model.key(name)) is not None}
    if not keys:
        return Routing(names, at_PB)
    if model.background is not None:
        ends = None if routing == "causal" else ends_B
        known, every = [*keys], [*keys.values()]
        left = possible_domains(every, input_ids, evidence_BT, model.background, ends)
        keys = {known[place]: every[place] for place in left}
        if not keys:
            return Routing(names, at_PB)
    if model.background is None:
        raise StateError(
            "no background statistics, which the router needs: make the model with "
            "background=..., or name domains (domains=...)"
        )
    evidence = token_evidence(
        state_BTD,
        input_ids,
        evidence_BT,
        background=model.background,
        keys=list(keys.values()),
        search=model.search,
    )
    if routing == "causal":
        found = find_causally(tuple(keys), evidence, list(keys.values()))
    else:
        found = find_by_prompt(tuple(keys), evidence, list(keys.values()), ends_B)
    places = {name: place for place, name in enumerate(names)}
    at_PB[[places[name] for name in keys]] = found.at_PB
    return Routing(names, at_PB)


def check_text(
    base: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    evidence_mask: Tensor | None = None,
    num_new: int = 0,
) -> None:
    """Refuse what the base cannot read, or cannot continue by so many new tokens."""
    shape = tuple(input_ids.shape)
    if len(shape) != 2 or not input_ids.numel():
        raise ShapeError(
            f"input_ids has shape {shape}, not (B, T) with at least one row and one token; one "
            "text alone is input_ids[None]"
        )
    for name, mask in (("attention_mask", attention_mask), ("evidence_mask", evidence_mask)):
        if mask is not None and tuple(mask.shape) != shape:
            raise ShapeError(f"{name} has shape {tuple(mask.shape)}, the ids {shape}")
    most = context_length(base)
    if most is not None and shape[1] + num_new > most:
        more = f" and up to {num_new} new ones are wanted" if num_new else ""
        raise InputError(
            f"the text has {shape[1]} tokens{more}, the base's context is {most}: shorten it"
        )


def evidence_tokens(
    input_ids: Tensor, present_BT: Tensor, special_ids: Tensor, evidence_mask: Tensor | None = None
) -> Tensor:
    """Return which tokens are evidence: bool (B, T).

    Neither padding, nor special tokens, nor what the caller masks; nor the first token of a row,
    which nothing predicts.

    Example:
        >>> ids = torch.tensor([[9, 9, 0, 5, 6]])
        >>> present = torch.tensor([[False, False, True, True, True]])
        >>> evidence_tokens(ids, present, torch.tensor([0])).tolist()
        [[False, False, False, True, True]]
    """
    predicted_BT = torch.nn.functional.pad(present_BT[:, :-1], (1, 0), value=False)
    is_special_BT = torch.isin(input_ids, special_ids.to(input_ids.device))
    evidence_BT = present_BT & predicted_BT & ~is_special_BT
    return evidence_BT if evidence_mask is None else evidence_BT & evidence_mask.bool()


def prompt_ends(prompt_lengths: Tensor | None, present_BT: Tensor) -> Tensor:
    """Return where each row's prompt ends, padding before it counted: int64 (B,).

    Lengths leave padding out: what a row holds must not depend on how long the other rows are.
    Where no lengths are given, all of the row is its prompt.

    Example:
        >>> present = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]).bool()
        >>> prompt_ends(None, present).tolist()
        [2, 4]
        >>> prompt_ends(torch.tensor([1, 2]), present).tolist()
        [1, 3]
    """
    lengths_B = present_BT.sum(1)
    if prompt_lengths is not None:
        lengths_B = lengths_B.minimum(prompt_lengths)
    return (present_BT.cumsum(1) < lengths_B[:, None]).sum(1) + 1


def left_padded_positions(base: Any, attention_mask: Tensor | None) -> Tensor | None:
    """Return the positions (B, T) of a batch padded on the left: from 0 at each first token.

    A model that gets none counts from a row's first place, padding or not. None where no row is
    padded on the left, or the base's forward takes no positions (ALiBi).
    """
    if attention_mask is None or bool(attention_mask[:, 0].all()):
        return None
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return None
    starts_B = attention_mask.bool().long().argmax(1)
    places_T = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (places_T - starts_B[:, None]).clamp_min(0)


def token_log_probs(logits_BTV: Tensor, input_ids: Tensor) -> Tensor:
    """Return the log probability of each token given those before it: (B, T), nats.

    They are fp64, on the CPU. It is 0 for the first token, which nothing predicts.

    Example:
        >>> log_probs = token_log_probs(torch.zeros(1, 2, 4), torch.tensor([[3, 1]]))
        >>> log_probs.exp().round(decimals=6).tolist()
        [[1.0, 0.25]]
    """
    scores_BTV = logits_BTV[:, :-1].float()
    targets_BT1 = input_ids[:, 1:, None].to(scores_BTV.device)
    chosen_BT = scores_BTV.gather(-1, targets_BT1).squeeze(-1)
    log_probs_BT = (chosen_BT - scores_BTV.logsumexp(-1)).cpu().double()
    return torch.nn.functional.pad(log_probs_BT, (1, 0))
