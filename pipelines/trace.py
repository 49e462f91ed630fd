"""Trace: which branch predicts each token of a text, by which experts, and for which items.

Shape suffixes: Q branches with the base first, P pools, B = 1 row, T tokens, U = T + 1 borders,
V words, C experts chosen by all heads of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from peer_cl.errors import InputError
from peer_cl.items import FoundItem
from peer_cl.mixture import overflowed_tokens
from peer_cl.model import PeerModel
from peer_cl.pool import pool_names
from peer_cl.read import check_text, read, relation_states
from peer_cl.usage import Fired, UsageWatch
from pipelines.batches import tokenise
from pipelines.corpora import composed_text
from pipelines.loading import check_loaded, load, load_tokenizer, snapshot_of
from stores.queries import Snapshot
from stores.registry import Registry

WHOLE = slice(None)


@dataclass(frozen=True)
class TracedExpert:
    """An active shared expert."""

    domain: str
    segment_id: str
    host_layer: int
    expert: int
    strength: float
    """L2 norm of what it adds to its layer's output, summed where several tokens are meant."""
    weight: float
    """The product-key router's, summed likewise."""


@dataclass(frozen=True)
class TracedToken:
    """One token of the text, as it is predicted from those before it."""

    text: str
    base_weight: float
    weights: dict[str, float]
    """The posterior weight of each active domain when this token is predicted."""
    base_log_prob: float
    log_prob: float
    """The mixture's, nats."""
    evidence: dict[str, float]
    """The pool's log probability less the base's, nats; positive = evidence for it; 0 where the
    pool overflowed."""
    experts: dict[str, list[TracedExpert]]
    """The pool's strongest experts when this token is predicted."""


@dataclass(frozen=True)
class TracedItem:
    """A fact whose subject a text names, or a passage that it repeats."""

    domain: str
    document_id: str
    title: str
    statement: str
    """A fact's statement, a passage's text; empty where texts are not kept."""
    subject_end: int
    """Number of the token with which a fact's subject is read whole, or from which on the text
    repeats a passage; the start token is 0."""
    token: int
    """Number of the token behind which its answer, or what comes next in it, is expected."""
    score: float
    """Of a fact, the cosine to the nearest of its relation keys, -1 to 1; of a passage, the share
    of what the last tokens tell that stands in it."""
    is_found: bool
    """Whether the score reaches the threshold; of several there, the best is active."""
    is_passage: bool


@dataclass(frozen=True)
class NextToken:
    """A candidate for the token after the text."""

    text: str
    probability: float


@dataclass(frozen=True)
class Trace:
    """Which domains and items a text activates, and what each adds to its prediction."""

    text: str
    snapshot: int
    active: list[str]
    """The domains that the router finds, or that were named."""
    items: list[TracedItem]
    """Those that it finds, in the order of the text."""
    base_weight: float
    weights: dict[str, float]
    """Posterior weights after the whole text."""
    evidence: dict[str, float]
    """Of the whole text, nats."""
    tokens: list[TracedToken]
    experts: dict[str, list[TracedExpert]]
    """By domain, its strongest experts over the whole text."""
    next_base: list[NextToken]
    next_mixture: list[NextToken]
    next_without_items: list[NextToken]
    """As the mixture would go on if no item had been learned; empty where none is found."""


def trace(
    registry: Registry,
    text: str,
    *,
    model: PeerModel | None = None,
    tokenizer: Any = None,
    snapshot: Snapshot | None = None,
    domains: str | Sequence[str] | None = None,
    routing: Literal["prompt", "all"] = "prompt",
    num_experts: int = 5,
    num_next: int = 5,
) -> Trace:
    """Return which branch predicts each token of a text, by which experts, and for which items.

    All of the text decides which domains are found, as of a prompt, unless `domains` are named;
    with routing="all" every enabled one is active. A model is given with its tokenizer or loaded
    here; its pools are as `snapshot` has them, by default the one that it was loaded from.
    `num_experts` shared experts are listed a token and a domain.

    Raises:
        InputError: for an empty text, or one that is longer than the base's context.
        UnknownError, StateError: for a domain that is not active in the snapshot and the model.
    """
    snapshot = snapshot or snapshot_of(registry, model)
    named = None if domains is None else pool_names(domains)
    for domain in named or ():
        registry.queries.check_active(domain, snapshot)
    if not text.strip():
        raise InputError("the text is empty; give some words to trace")
    if model is None:
        model, tokenizer = load(registry, snapshot.id)
    elif tokenizer is None:
        tokenizer = load_tokenizer(registry)
    check_loaded(registry, model, snapshot, model.active_pools if named is None else named)
    text = composed_text(text)
    ids_BT = torch.tensor(tokenise(tokenizer, [text]))

    watch = UsageWatch()
    reading = read(model, ids_BT, routing=routing, domains=named, watch=watch, keep_logits=True)
    is_active = (reading.entries_PBU.sum((1, 2)) > 0).tolist()
    places = {name: n for n, name in enumerate(reading.domains) if is_active[n]}
    fired = {}
    for name in places:
        learned = _learned(registry, snapshot, model, name)
        fired[name] = [
            (*learned[id(one.segment)], one) for one in watch.fired if id(one.segment) in learned
        ]
    leads_PT = (reading.log_probs_QBT[1:] - reading.log_probs_QBT[:1])[:, 0]
    # The mixture leaves a pool out from the token on at which it overflowed.
    is_out_PT = overflowed_tokens(reading.log_probs_QBT, reading.evidence_BT)[:, 0]
    leads_PT = torch.where(is_out_PT | ~leads_PT.isfinite(), 0.0, leads_PT)
    weights = {n: float(reading.posterior_QBU[1 + place, 0, -1]) for n, place in places.items()}
    evidence_PT = torch.where(reading.evidence_BT[0], leads_PT, 0.0)
    tokens = []
    for at in range(1, ids_BT.shape[1]):  # nothing predicts the start token
        before = slice(at - 1, at)  # what was read there predicts this token
        tokens.append(
            TracedToken(
                text=str(tokenizer.decode([int(ids_BT[0, at])])),
                base_weight=float(reading.posterior_QBU[0, 0, at]),
                weights={n: float(reading.posterior_QBU[1 + i, 0, at]) for n, i in places.items()},
                base_log_prob=float(reading.log_probs_QBT[0, 0, at]),
                log_prob=float(reading.mixture_log_probs_BT[0, at]),
                evidence={n: float(leads_PT[i, at]) for n, i in places.items()},
                experts={n: _strongest(n, own, before, num_experts) for n, own in fired.items()},
            )
        )
    items = [
        _traced_item(registry, model, name, found)
        for name in places
        for found in reading.items.get(name, ())
    ]
    without = []
    if items:
        plain = read(
            model, ids_BT, routing=routing, domains=named, keep_logits=True, with_items=False
        )
        without = _candidates(tokenizer, plain.logits_BTV[0, -1], num_next)
    return Trace(
        text=text,
        snapshot=snapshot.id,
        active=list(places),
        items=items,
        base_weight=float(reading.posterior_QBU[0, 0, -1]),
        weights=weights,
        evidence={name: float(evidence_PT[place].sum()) for name, place in places.items()},
        tokens=tokens,
        experts={name: _strongest(name, own, WHOLE, num_experts) for name, own in fired.items()},
        next_base=_candidates(tokenizer, cast(Tensor, reading.base_logits_BTV)[0, -1], num_next),
        next_mixture=_candidates(tokenizer, reading.logits_BTV[0, -1], num_next),
        next_without_items=without,
    )


def _traced_item(registry: Registry, model: PeerModel, domain: str, found: FoundItem) -> TracedItem:
    item_id = model.pool(domain).items.items[found.item].item_id
    places = [place.document for place in registry.queries.places(item_id)]
    document = next(one for one in reversed(places) if one.domain == domain)
    space = None if model.background is None else model.background.relations
    least = 1.0 if space is None else space.threshold
    is_kept = document.text_object is not None
    return TracedItem(
        domain=domain,
        document_id=item_id,
        title=document.title,
        statement=registry.queries.document_text(document) if is_kept else "",
        subject_end=found.begin,
        token=found.at,
        score=found.score,
        is_found=found.is_passage or found.score >= least,
        is_passage=found.is_passage,
    )


def search(
    registry: Registry, prompt: str, *, model: PeerModel | None = None, tokenizer: Any = None
) -> list[TracedItem]:
    """Return the facts that a prompt names and the passages that it repeats, the nearest first.

    Raises: InputError: for an empty prompt, or one that is longer than the base's context.
    """
    if not prompt.strip():
        raise InputError("the prompt is empty; give some words to search with")
    if model is None or tokenizer is None:
        model, tokenizer = load(registry)
    ids_BT = torch.tensor(tokenise(tokenizer, [composed_text(prompt)]))
    check_text(model.base, ids_BT)
    states = relation_states(model, ids_BT)
    if states is None or model.background is None:
        return []
    told_BT = model.background.words.nats(ids_BT)
    ends_B = torch.tensor([ids_BT.shape[1]])
    found = [
        _traced_item(registry, model, name, one)
        for name in model.active_pools
        if (index := model.items(name)) is not None
        for one in (
            *index.scored(states, ids_BT, ends_B),
            *index.passages(ids_BT, states.counted_BT, told_BT, ends_B),
        )
    ]
    return sorted(found, key=lambda one: (-one.score, one.domain, one.document_id))


Used = dict[str, dict[int, dict[int, float]]]
"""A figure by segment id, host layer and expert."""


def _learned(
    registry: Registry, snapshot: Snapshot, model: PeerModel, domain: str
) -> dict[int, tuple[str, int]]:
    """Return of each shard of a loaded domain, by its place in memory, the id of its segment and
    the number of its first expert: a segment's experts are numbered one shard after the other.
    """
    check_loaded(registry, model, snapshot, [domain])
    state = registry.queries.check_active(domain, snapshot)
    rows = registry.queries.chain(state.version)
    names = [row.id for row in rows for _ in row.objects_of("shared")]
    found: dict[int, tuple[str, int]] = {}
    before: dict[str, int] = {}
    for name, shard in zip(names, model.pool(domain).chain(), strict=True):
        found[id(shard)] = name, before.get(name, 0)
        before[name] = found[id(shard)][1] + shard.shape.num_experts
    return found


Fires = Sequence[tuple[str, int, Fired]]
"""What shards did, each with its segment's id and the number of its first expert."""


def _sum_up(fired: Fires, tokens: slice, what: str) -> Used:
    """Return the weights or strengths of experts, summed over some tokens."""
    sums: Used = {}
    for segment_id, first, one in fired:
        values = getattr(one, what)[tokens].double().flatten()
        ids, places = one.ids_TC[tokens].flatten().unique(return_inverse=True)
        totals = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, places, values)
        used = zip((ids + first).tolist(), totals.tolist(), strict=True)
        sums.setdefault(segment_id, {}).setdefault(one.host_layer, {}).update(used)
    return sums


def _strongest(domain: str, fired: Fires, tokens: slice, num: int) -> list[TracedExpert]:
    """Return the experts that add most, over some tokens."""
    strengths, weights = (_sum_up(fired, tokens, what) for what in ("strengths_TC", "weights_TC"))
    experts = [
        TracedExpert(domain, segment_id, layer, expert, value, weights[segment_id][layer][expert])
        for segment_id, layers in strengths.items()
        for layer, own in layers.items()
        for expert, value in own.items()
    ]
    experts.sort(key=lambda one: (-one.strength, one.segment_id, one.host_layer, one.expert))
    return experts[:num]


def _candidates(tokenizer: Any, logits_V: Tensor, num: int) -> list[NextToken]:
    best = logits_V.double().softmax(-1).topk(min(num, len(logits_V)))
    return [
        NextToken(str(tokenizer.decode([token])), value)
        for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
