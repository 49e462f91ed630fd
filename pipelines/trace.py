"""Trace: which branch predicts each token of a text, by which experts, and what those hold.

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
from peer_cl.pool import Segment, pool_names
from peer_cl.read import check_text, read, relation_states
from peer_cl.usage import Fired, UsageWatch
from pipelines.batches import tokenise
from pipelines.corpora import composed_text
from pipelines.loading import check_loaded, load, load_tokenizer, snapshot_of
from pipelines.provenance import RankedDocument, rank_documents
from stores.queries import Snapshot
from stores.registry import Registry

WHOLE = slice(None)


@dataclass(frozen=True)
class TracedExpert:
    """An active expert."""

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
    """An item whose subject a text names."""

    domain: str
    document_id: str
    title: str
    statement: str
    """Empty where texts are not kept."""
    subject_end: int
    """Number of the token with which its subject is read whole; the start token is 0."""
    token: int
    """Number of the token behind which its answer is expected."""
    score: float
    """Cosine to the nearest of its relation keys, -1 to 1."""
    is_found: bool
    """Whether the score reaches the base's threshold; of several there, the best is active."""


@dataclass(frozen=True)
class NextToken:
    """A candidate for the token after the text."""

    text: str
    probability: float


@dataclass(frozen=True)
class Trace:
    """Which domains a text activates, and what they hold about it."""

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
    documents: list[RankedDocument]
    """Those that the active experts hold, each domain's best first, domains by weight."""
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
    num_documents: int = 10,
    num_next: int = 5,
) -> Trace:
    """Return which branch predicts each token of a text, by which experts, and what those hold.

    All of the text decides which domains are found, as of a prompt, unless `domains` are named;
    with routing="all" every enabled one is active. A model is given with its tokenizer or loaded
    here; its pools are as `snapshot` has them, by default the one that it was loaded from.
    `num_experts` are listed a token and a domain, `num_documents` a domain.

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
        learned = learned_segments(registry, snapshot, model, name)
        ids = {id(segment): key for key, segment in learned.items()}
        fired[name] = [(ids[id(one.segment)], one) for one in watch.fired if id(one.segment) in ids]
    used = {name: sum_up(own, WHOLE, "weights_TC") for name, own in fired.items()}
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
        documents=[
            document
            for name in sorted(places, key=lambda name: -weights[name])
            for document in rank_documents(registry, name, used[name], num_documents)
        ],
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
        is_found=found.score >= least,
    )


def search(
    registry: Registry, prompt: str, *, model: PeerModel | None = None, tokenizer: Any = None
) -> list[TracedItem]:
    """Return the items of all enabled domains that a prompt names, those it asks for most first.

    Raises: InputError: for an empty prompt, or one that is longer than the base's context.
    """
    if not prompt.strip():
        raise InputError("the prompt is empty; give some words to search with")
    if model is None or tokenizer is None:
        model, tokenizer = load(registry)
    ids_BT = torch.tensor(tokenise(tokenizer, [composed_text(prompt)]))
    check_text(model.base, ids_BT)
    states = relation_states(model, ids_BT)
    if states is None:
        return []
    ends_B = torch.tensor([ids_BT.shape[1]])
    found = [
        _traced_item(registry, model, name, one)
        for name in model.active_pools
        if (index := model.items(name)) is not None
        for one in index.scored(states, ids_BT, ends_B)
    ]
    return sorted(found, key=lambda one: (-one.score, one.domain, one.document_id))


Used = dict[str, dict[int, dict[int, float]]]
"""A figure by segment id, host layer and expert."""


def learned_segments(
    registry: Registry, snapshot: Snapshot, model: PeerModel, domain: str
) -> dict[str, Segment]:
    """Return a loaded domain's segments by their ids, the oldest first."""
    check_loaded(registry, model, snapshot, [domain])
    state = registry.queries.check_active(domain, snapshot)
    chain = registry.queries.chain(state.version)
    ids = [segment.id for segment in chain if segment.pool_object is not None]
    return dict(zip(ids, model.pool(domain).chain(), strict=True))


def sum_up(fired: Sequence[tuple[str, Fired]], tokens: slice, what: str) -> Used:
    """Return the weights or strengths of experts, summed over some tokens."""
    sums: Used = {}
    for segment_id, one in fired:
        values = getattr(one, what)[tokens].double().flatten()
        ids, places = one.ids_TC[tokens].flatten().unique(return_inverse=True)
        totals = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, places, values)
        used = dict(zip(ids.tolist(), totals.tolist(), strict=True))
        sums.setdefault(segment_id, {})[one.host_layer] = used
    return sums


def _strongest(
    domain: str, fired: Sequence[tuple[str, Fired]], tokens: slice, num: int
) -> list[TracedExpert]:
    """Return the experts that add most, over some tokens."""
    strengths, weights = (sum_up(fired, tokens, what) for what in ("strengths_TC", "weights_TC"))
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
