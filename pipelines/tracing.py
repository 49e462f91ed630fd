"""Trace: who spoke at each token of a text, by which rows, and which documents those hold.

Shape suffixes: Q branches with the base first, P pools, B = 1 row, T tokens, U = T + 1 borders,
V words, C rows chosen by all heads of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peer_cl.branches import default_position_ids, run_base, token_log_probs
from peer_cl.choice import Choice, settle
from peer_cl.errors import InputError
from peer_cl.inputs import check_room
from peer_cl.mixture import (
    broken_tokens,
    enter_at,
    log_masses,
    log_weights,
    mixture_log_probs,
)
from peer_cl.model import PeerModel
from peer_cl.pool import Segment, pool_names
from peer_cl.scoring import evidence_tokens
from peer_cl.usage import Fired, UsageWatch
from pipelines.batches import tokenise
from pipelines.documents import composed_text
from pipelines.holders import RankedDocument, rank_documents
from pipelines.loading import check_loaded, load_tokenizer, snapshot_of
from stores import Registry, Snapshot
from stores.records import ROWS

if TYPE_CHECKING:
    from pipelines.store import Store


@dataclass(frozen=True)
class TracedRow:
    """A row that fired."""

    domain: str
    segment_id: str
    host_layer: int
    row: int
    strength: float
    """L2 norm of what it adds to its layer's output, summed where several tokens are meant."""
    weight: float
    """The router's, summed likewise."""


@dataclass(frozen=True)
class TracedToken:
    """One token of the text, as it is predicted from those before it."""

    text: str
    base_weight: float
    weights: dict[str, float]
    """The weight of each asked pool, when this token is predicted."""
    base_log_prob: float
    log_prob: float
    """The mixture's, nats."""
    evidence: dict[str, float]
    """Log probability of the pool less the base's, nats: above 0 it speaks for the pool; 0 where it
    overflowed."""
    rows: dict[str, list[TracedRow]]
    """The pool's strongest rows when this token is predicted."""


@dataclass(frozen=True)
class NextToken:
    """A candidate for the token after the text."""

    text: str
    probability: float


@dataclass(frozen=True)
class Trace:
    """What a text asks, and what answers."""

    text: str
    snapshot: int
    asked: list[str]
    """The pools that the text asks, or that were named."""
    base_weight: float
    weights: dict[str, float]
    """After the whole text."""
    evidence: dict[str, float]
    """Of the whole text, nats."""
    tokens: list[TracedToken]
    rows: dict[str, list[TracedRow]]
    """By pool, its strongest rows over the whole text."""
    documents: list[RankedDocument]
    """Those that the asked rows hold, the best of each domain first, domains by weight."""
    next_base: list[NextToken]
    next_injected: list[NextToken]


@dataclass(frozen=True)
class _Branch:
    """What one asked pool does with the text."""

    domain: str
    log_probs_BT: Tensor
    last_1V: Tensor
    """Its logits after the text."""
    fired: list[tuple[str, Fired]]
    """With the id of the segment."""


def trace(
    store: Store,
    text: str,
    *,
    model: PeerModel | None = None,
    tokenizer: Any = None,
    snapshot: Snapshot | None = None,
    domains: str | Sequence[str] | None = None,
    ask: str = "context",
    num_rows: int = 5,
    num_documents: int = 10,
    num_next: int = 5,
) -> Trace:
    """Return who speaks at each token of a text, by which rows, and what those hold.

    Args:
        store: an open store.
        text: read as a given context: all of it may choose who is asked.
        model: loaded from this store, its pools as `snapshot` has them; default: loaded here.
        tokenizer: the base's; default: loaded here.
        snapshot: whose documents are named; default: the one that the model was loaded from, or
            the live one.
        domains: ask only these (or this one), without odds for names; default: those whose
            signature matches the text, and, where names count, those that it names.
        ask: "context", or "all": every enabled domain.
        num_rows: strongest rows kept, a token and a pool.
        num_documents: documents kept, a domain.
        num_next: candidates kept for the next token.

    Raises:
        InputError: for an empty text, or one that is longer than the base's context.
        UnknownError: for an unknown domain; StateError: for one that is not live, or disabled, or
            that the model holds in another version than the snapshot.
    """
    registry = store.registry
    snapshot = snapshot or snapshot_of(registry, model)
    domains = pool_names(domains) if domains is not None else None
    check_domains(registry, snapshot, domains or ())
    if not text.strip():
        raise InputError("the text is empty; give some words to trace")
    if model is None:
        model, tokenizer = store.load(snapshot.id)
    elif tokenizer is None:
        tokenizer = load_tokenizer(registry)
    check_loaded(registry, model, snapshot, model.active_pools if domains is None else domains)
    text = composed_text(text)  # as what was learned is
    ids_BT = torch.tensor(tokenise(tokenizer, [text]))
    check_room(model.base, ids_BT.shape[1])
    with torch.no_grad():
        base = run_base(model.attachment, input_ids=ids_BT, use_cache=False)
        evidence_BT = evidence_tokens(ids_BT, None, model.special_ids)
        choice = model.asked(base, ids_BT, evidence_BT, ask, None, domains)
        choice = choice.of(_entering(choice))
        branches = [
            _run(registry, model, snapshot, name, base.tap_BTD, ids_BT) for name in choice.pools
        ]
        log_probs_QBT = torch.stack(
            [token_log_probs(base.logits_BTV, ids_BT), *(b.log_probs_BT for b in branches)]
        )
        choice = settle(
            choice,
            log_probs_QBT,
            evidence_BT,
            torch.tensor([ids_BT.shape[1]]),
            base.logits_BTV[:, -1],
            [(torch.tensor([0]), branch.last_1V) for branch in branches],
        )
        asked = _entering(choice)  # a pool that is named and has nothing to say falls silent
        kept = [number for number, branch in enumerate(branches) if branch.domain in asked]
        choice, branches = choice.of(asked), [branches[number] for number in kept]
        log_probs_QBT = log_probs_QBT[[0, *(1 + number for number in kept)]]
        entries_PBU = enter_at(model.share, choice.at_PB, ids_BT.shape[1])
        odds_PBU = choice.odds(ids_BT.shape[1])
        masses_QBU = log_masses(log_probs_QBT, evidence_BT, entries_PBU, odds_PBU)
        weights_QU = log_weights(masses_QBU).exp()[:, 0]
        mixed_BT = mixture_log_probs(log_probs_QBT, evidence_BT, entries_PBU, odds_PBU)
        leads_PT = _leads(log_probs_QBT, evidence_BT)
        next_QV = torch.cat([base.logits_BTV[:, -1], *(b.last_1V for b in branches)])
        next_QV = next_QV.double().softmax(-1)
        # What overflowed says nothing, here and where its mass does not show it yet.
        next_QV[1:] = torch.where(next_QV[1:].isfinite(), next_QV[1:], 0.0)
    nats_T = log_probs_QBT[0, 0], mixed_BT[0]
    tokens = _tokens(tokenizer, ids_BT[0], branches, *nats_T, leads_PT, weights_QU, num_rows)
    last = weights_QU[:, -1].tolist()
    evidence_PT = torch.where(evidence_BT[0], leads_PT, 0.0)
    weights = dict(zip(asked, last[1:], strict=True))
    return Trace(
        text=text,
        snapshot=snapshot.id,
        asked=asked,
        base_weight=last[0],
        weights=weights,
        evidence=dict(zip(asked, evidence_PT.sum(-1).tolist(), strict=True)),
        tokens=tokens,
        rows={b.domain: _strongest(b, None, num_rows) for b in branches},
        documents=[
            document
            for branch in sorted(branches, key=lambda b: -weights[b.domain])
            for document in rank_documents(
                registry, branch.domain, asked_weights(branch.fired), num_documents
            )
        ],
        next_base=_candidates(tokenizer, next_QV[0], num_next),
        next_injected=_candidates(tokenizer, weights_QU[:, -1] @ next_QV, num_next),
    )


def _leads(log_probs_QBT: Tensor, evidence_BT: Tensor) -> Tensor:
    """Return by how much each pool's log probability of a token is over the base's, (P, T).

    Where a pool overflowed it is 0, and from there on, as the mixture leaves it out.
    """
    leads_PBT = log_probs_QBT[1:] - log_probs_QBT[:1]
    broken_PBT = broken_tokens(log_probs_QBT, evidence_BT)
    is_left_out_PBT = ~log_probs_QBT[1:].isfinite()
    if broken_PBT is not None:
        is_left_out_PBT |= broken_PBT
    return torch.where(is_left_out_PBT, 0.0, leads_PBT)[:, 0]


def _entering(choice: Choice) -> list[str]:
    """Return the pools of a choice that enter its one row."""
    entered = choice.at_PB[:, 0].tolist()
    return [name for name, at in zip(choice.pools, entered, strict=True) if at >= 0]


def check_domains(registry: Registry, snapshot: Snapshot, domains: Sequence[str]) -> None:
    """Refuse domains that a snapshot's model cannot ask, saying why.

    Raises:
        UnknownError: when there never was such a domain.
        StateError: when it was rolled back, purged or disabled.
    """
    for domain in domains:
        registry.check_askable(domain, snapshot)


def _run(
    registry: Registry,
    model: PeerModel,
    snapshot: Snapshot,
    domain: str,
    tap_BTD: Tensor,
    ids_BT: Tensor,
) -> _Branch:
    """Run one pool over the text, and keep which rows fired."""
    watch = UsageWatch()
    positions = default_position_ids(ids_BT.shape[1], 0, ids_BT.device)
    logits_BTV = model.branch_logits(
        domain, tap_BTD, torch.tensor([0]), ids_BT, None, positions, watch=watch
    )
    learned = learned_segments(registry, snapshot, model, domain)
    segments = {id(segment): segment_id for segment_id, segment in learned.items()}
    return _Branch(
        domain,
        token_log_probs(logits_BTV, ids_BT),
        logits_BTV[:, -1],
        [(segments[id(fired.segment)], fired) for fired in watch.fired],
    )


def learned_segments(
    registry: Registry, snapshot: Snapshot, model: PeerModel, domain: str
) -> dict[str, Segment]:
    """Return a loaded domain's segments by their ids, the oldest first.

    Raises: StateError: when the model holds another version than the snapshot.
    """
    check_loaded(registry, model, snapshot, [domain])
    state = snapshot.state(domain)
    chain = registry.chain(state.version) if state is not None else ()
    ids = [segment.id for segment in chain if segment.kind == ROWS]
    return dict(zip(ids, model.pool(domain).chain(), strict=True))


def asked_weights(
    fired: Sequence[tuple[str, Fired]], tokens: slice | None = None
) -> dict[str, dict[int, dict[int, float]]]:
    """Return the router's weight by segment, host layer and row, summed over tokens."""
    return _sum_up(fired, tokens, "weights_TC")


def _sum_up(
    fired: Sequence[tuple[str, Fired]], tokens: slice | None, what: str
) -> dict[str, dict[int, dict[int, float]]]:
    part = slice(None) if tokens is None else tokens
    sums: dict[str, dict[int, dict[int, float]]] = {}
    for segment_id, one in fired:
        values = getattr(one, what)[part].double().flatten()
        ids, places = one.ids_TC[part].flatten().unique(return_inverse=True)
        totals = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, places, values)
        rows = dict(zip(ids.tolist(), totals.tolist(), strict=True))
        sums.setdefault(segment_id, {})[one.host_layer] = rows
    return sums


def _strongest(branch: _Branch, tokens: slice | None, num: int) -> list[TracedRow]:
    """Return the rows that add most, over some tokens (default: all)."""
    strengths = _sum_up(branch.fired, tokens, "strengths_TC")
    weights = asked_weights(branch.fired, tokens)
    rows = [
        TracedRow(branch.domain, segment_id, layer, row, value, weights[segment_id][layer][row])
        for segment_id, layers in strengths.items()
        for layer, own in layers.items()
        for row, value in own.items()
    ]
    return sorted(rows, key=lambda r: (-r.strength, r.segment_id, r.host_layer, r.row))[:num]


def _tokens(
    tokenizer: Any,
    ids_T: Tensor,
    branches: Sequence[_Branch],
    base_T: Tensor,
    mixed_T: Tensor,
    leads_PT: Tensor,
    weights_QU: Tensor,
    num_rows: int,
) -> list[TracedToken]:
    """Return every token but the start token, which nothing predicts."""
    found = []
    for place in range(1, len(ids_T)):
        weights = weights_QU[:, place].tolist()
        leads = leads_PT[:, place].tolist()
        before = slice(place - 1, place)  # what was read there predicts this token
        found.append(
            TracedToken(
                text=str(tokenizer.decode([int(ids_T[place])])),
                base_weight=weights[0],
                weights={b.domain: w for b, w in zip(branches, weights[1:], strict=True)},
                base_log_prob=float(base_T[place]),
                log_prob=float(mixed_T[place]),
                evidence={b.domain: lead for b, lead in zip(branches, leads, strict=True)},
                rows={b.domain: _strongest(b, before, num_rows) for b in branches},
            )
        )
    return found


def _candidates(tokenizer: Any, probabilities_V: Tensor, num: int) -> list[NextToken]:
    best = probabilities_V.topk(min(num, len(probabilities_V)))
    return [
        NextToken(str(tokenizer.decode([token])), value)
        for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
