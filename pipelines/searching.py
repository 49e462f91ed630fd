"""Search: which rows would a text ask, and which documents do they hold?

The text runs through the bare model once. What each host layer's feed-forward reads is put to the
router of every pool, which finds its rows exactly by product keys. No pool runs, none need be asked
by the mixture, and no threshold decides: every enabled domain is searched.

What documents use was recorded with the pool on, so what the upper layers read there holds what the
lower ones added, and the bare model's states are another thing: only the lower half of a pool's
host layers is looked at.

Shape suffixes: T tokens, D width.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peer_cl.branches import BasePass, run_base
from peer_cl.errors import InputError
from peer_cl.inputs import check_room
from peer_cl.model import PeerModel
from peer_cl.pool import Segment, pool_names
from peer_cl.usage import Fired, UsageWatch
from pipelines.batches import tokenise
from pipelines.documents import composed_text
from pipelines.holders import RankedDocument, rank_documents
from pipelines.loading import load_tokenizer, snapshot_of
from pipelines.standing import standings
from pipelines.tracing import asked_weights, check_domains, learned_segments
from stores import Snapshot

if TYPE_CHECKING:
    from pipelines.store import Store


@dataclass(frozen=True)
class FoundRow:
    """A row that a text would ask."""

    domain: str
    segment_id: str
    host_layer: int
    row: int
    weight: float
    """The router's, summed over the text's tokens."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    text: str
    snapshot: int
    rows: list[FoundRow]
    documents: list[RankedDocument]
    """By domain, the likeliest domain first; in each, the most alike document first."""
    log_odds: dict[str, float]
    """By domain, the likeliest first: its signature's mean log odds on the text, nats a token.
    Scores of two domains' documents say nothing of each other; these do."""
    needed: dict[str, float | None]
    """By domain: the log odds from which on a text of this length, with states as near the
    domain's, asks it by itself; None where none would do."""
    asked: list[str]
    """Domains that the text asks by their signatures."""
    named: list[str]
    """Domains that nothing but their names in the text ask, if they have something to say."""


def search(
    store: Store,
    text: str,
    *,
    model: PeerModel | None = None,
    tokenizer: Any = None,
    snapshot: Snapshot | None = None,
    domains: str | Sequence[str] = (),
    num_rows: int = 10,
    num_documents: int = 10,
) -> Found:
    """Return the rows that a text would ask, and the documents whose rows those are.

    Args:
        store: an open store.
        text: some words, or a whole document.
        model: loaded from this store, its pools as `snapshot` has them; default: loaded here.
        tokenizer: the base's; default: loaded here.
        snapshot: whose documents are named; default: the one that the model was loaded from, or
            the live one.
        domains: only these (or this one).
        num_rows: rows kept.
        num_documents: documents kept, a domain.

    Raises:
        InputError: for an empty text, or one that is longer than the base's context.
        UnknownError, StateError: for a domain that is not there, or disabled, or that the model
            holds in another version than the snapshot.
    """
    registry = store.registry
    snapshot = snapshot or snapshot_of(registry, model)
    domains = pool_names(domains)
    check_domains(registry, snapshot, domains)
    if not text.strip():
        raise InputError("the text is empty; give some words to search for")
    if model is None:
        model, tokenizer = store.load(snapshot.id)
    elif tokenizer is None:
        tokenizer = load_tokenizer(registry)
    names = [name for name in model.active_pools if not domains or name in domains]
    learned = {name: learned_segments(registry, snapshot, model, name) for name in names}
    segments = [segment for own in learned.values() for segment in own.values()]
    layers = sorted({layer for one in segments for layer in lower_half(one.host_layers)})
    ids_BT, base = read_text(model, tokenizer, text, layers)
    inputs = {layer: states_BTD[0] for layer, states_BTD in base.feed_forward_BTD.items()}
    found = standings(model, base, ids_BT, names)
    rows: list[FoundRow] = []
    documents: list[RankedDocument] = []
    likeliest = sorted(names, key=lambda name: (-found[name].log_odds, name))
    for name in likeliest:
        fired = [
            (segment_id, one)
            for segment_id, segment in learned[name].items()
            for one in routed(segment, inputs)
        ]
        asked = asked_weights(fired)
        documents += rank_documents(registry, name, asked, num_documents)
        rows += [
            FoundRow(name, segment_id, layer, row, weight)
            for segment_id, by_layer in asked.items()
            for layer, own in by_layer.items()
            for row, weight in own.items()
        ]
    best = heapq.nsmallest(
        num_rows, rows, key=lambda r: (-r.weight, r.domain, r.segment_id, r.host_layer, r.row)
    )
    return Found(
        text=text,
        snapshot=snapshot.id,
        rows=best,
        documents=documents,
        log_odds={name: found[name].log_odds for name in likeliest},
        needed={name: found[name].needed for name in likeliest},
        asked=[name for name in likeliest if found[name].is_asked],
        named=[name for name in likeliest if found[name].is_named],
    )


def read_text(
    model: PeerModel, tokenizer: Any, text: str, host_layers: Sequence[int]
) -> tuple[Tensor, BasePass]:
    """Run the bare model over a text, and keep what the host layers' feed-forwards read.

    Returns: the text's ids, (1, T), and the pass.

    Raises: InputError: for a text that is longer than the base's context.
    """
    ids_BT = torch.tensor(tokenise(tokenizer, [composed_text(text)]))  # as what was learned is
    check_room(model.base, ids_BT.shape[1])
    with torch.no_grad():
        base = run_base(model.attachment, reads=host_layers, input_ids=ids_BT, use_cache=False)
    return ids_BT, base


def lower_half(host_layers: Sequence[int]) -> Sequence[int]:
    """Return the lower half of host layers, at least one.

    Example:
        >>> lower_half((3, 9, 15))
        (3, 9)
    """
    return host_layers[: (len(host_layers) + 1) // 2]


@torch.no_grad()
def routed(segment: Segment, inputs: Mapping[int, Tensor]) -> list[Fired]:
    """Return which rows a segment's lower routers choose for what the bare model's layers read.

    Args:
        segment: a pool's.
        inputs: by host layer, (T, D).
    """
    watch = UsageWatch()
    for layer in lower_half(segment.host_layers):
        own_TD = inputs[layer].to(segment.layer(layer).query.weight.dtype)
        watch(segment, layer, own_TD, *segment.layer(layer).retrieve(own_TD))
    return watch.fired
