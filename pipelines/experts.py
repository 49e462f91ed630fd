"""A domain's experts: what each item owns, and how evenly its texts use the shared ones.

Shape suffixes: I items, L host layers, R experts an item and layer, D width, N shared experts, V
vocabulary, E numbers of what an item's experts add (L*D).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import UnknownError
from peer_cl.model import PeerModel
from peer_cl.own import OwnExperts
from peer_cl.pool import Segment as PoolSegment
from peer_cl.usage import expert_usage, unevenness
from pipelines.loading import (
    check_loaded,
    empty_model,
    load_owns,
    load_shards,
    load_store_base,
    snapshot_of,
    store_identity,
)
from pipelines.usage import read_use
from stores.queries import DocumentPlace, Segment, Snapshot
from stores.registry import Registry

NUM_PROMOTED = 5


@dataclass(frozen=True)
class Owned:
    """How many experts a document owns where one segment holds it."""

    domain: str
    label: str
    """Of the version that they came with."""
    num_experts: int
    """Over all host layers."""
    num_host_layers: int
    size_bytes: int
    """Of the experts and of the keys that find them."""


@dataclass(frozen=True)
class ItemExperts:
    """An item of a domain, and the experts that it owns."""

    document_id: str
    title: str
    statement: str
    """Of a fact; empty for a text, and where texts are not kept."""
    owned: Owned
    promotes: list[str]
    """Tokens that its experts of the highest host layer together raise most; none: they add
    nothing."""
    nearest: NearItem | None
    """None where the domain has no other item."""


@dataclass(frozen=True)
class NearItem:
    """The other item of the domain whose experts add the most similar."""

    document_id: str
    title: str
    similarity: float
    """Cosine between what the experts of both add, summed in each host layer; -1 to 1."""


@dataclass(frozen=True)
class LayerUse:
    """How the shared experts of one segment and host layer are used by the learned texts."""

    label: str
    segment_id: str
    host_layer: int
    num_experts: int
    usage: float
    """Share of experts that were active at all."""
    unevenness: float
    """Nats: 0 is even, log N is one expert alone."""
    num_dead: int


@dataclass(frozen=True)
class Expert:
    """One shared expert."""

    label: str
    segment_id: str
    host_layer: int
    expert: int
    weight_share: float
    """Of its layer's weight in the product-key router."""
    promotes: list[str]
    """Tokens that its output raises most, read through the unembedding; none: it adds nothing."""


@dataclass(frozen=True)
class ExpertsReport:
    """A domain's experts in short."""

    domain: str
    version: str
    num_items: int
    items: list[ItemExperts]
    """The first of them."""
    layers: list[LayerUse]
    busiest: list[Expert]


class _Held(NamedTuple):
    """Where experts of an item lie."""

    segment: Segment
    own: OwnExperts
    place: int


class DomainExperts:
    """An active domain's own and shared experts.

    Only the base of the model is used; by default it is loaded. The default snapshot is the one
    that the model was loaded from, or the live one.

    Raises: UnknownError, StateError: for a domain that is not active, or an unknown expert.
    """

    def __init__(
        self,
        registry: Registry,
        domain: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.registry, self.domain = registry, domain
        self.snapshot = snapshot or snapshot_of(registry, model)
        self.version = registry.queries.check_active(domain, self.snapshot).version
        if model is not None and domain in model.active_pools:
            check_loaded(registry, model, self.snapshot, [domain])
        self.chain = registry.queries.chain(self.version)
        self.shared = [segment for segment in self.chain if segment.objects_of("shared")]
        if model is None:
            base = load_store_base(registry)
            model, tokenizer = empty_model(registry, base), base.tokenizer
        self.model, self.tokenizer = model, tokenizer

    def report(self, num: int = 10, host_layer: int | None = None) -> ExpertsReport:
        """Return the first `num` items; of the shared experts their use by layer (or of one), and
        the `num` busiest."""
        if host_layer is not None:
            self._check_layer(host_layer)
        layers, used = [], []
        for segment in self.shared:
            for layer, weights_N in segment_weights(self.registry, segment).items():
                if host_layer in (None, layer):
                    layers.append(layer_use(segment, layer, weights_N))
                    shares = enumerate(_shares(weights_N))
                    used += [(-one, segment.ordinal, layer, n) for n, one in shares if one]
        segments = {segment.ordinal: segment for segment in self.shared}
        return ExpertsReport(
            domain=self.domain,
            version=self.version,
            num_items=len(self._held),
            items=[self._item(document_id) for document_id in [*self._held][:num]],
            layers=layers,
            busiest=[
                self._expert(segments[ordinal], layer, expert, -negative)
                for negative, ordinal, layer, expert in sorted(used)[:num]
            ],
        )

    def expert(self, host_layer: int, expert: int, label: str | None = None) -> Expert:
        """Return a shared expert of the domain's newest segment, or of the version of a label."""
        self._check_layer(host_layer)
        chosen = [segment for segment in self.shared if label in (None, segment.label)]
        if not chosen:
            known = ", ".join(segment.label for segment in self.shared)
            what = f"{self.domain} has no live version {label!r} with shared experts"
            raise UnknownError(f"{what}; it has {known}")
        segment = chosen[-1]
        shares = _shares(segment_weights(self.registry, segment)[host_layer])
        if not 0 <= expert < len(shares):
            where = f"at layer {host_layer} of {self.domain}"
            raise UnknownError(f"no expert {expert} {where}; it has 0 to {len(shares) - 1}")
        return self._expert(segment, host_layer, expert, shares[expert])

    def _check_layer(self, host_layer: int) -> None:
        known = sorted({layer for segment in self.shared for layer in segment.host_layers})
        if not known:
            why = "they wait to be trained anew" if self._is_pending else "it learned no text"
            raise UnknownError(f"{self.domain} has no shared experts: {why}")
        if host_layer not in known:
            what = f"{self.domain} has no shared experts at layer {host_layer}"
            raise UnknownError(f"{what}; its host layers are {', '.join(map(str, known))}")

    @property
    def _is_pending(self) -> bool:
        return any(segment.pending_shards for segment in self.chain)

    # Own experts

    @functools.cached_property
    def _held(self) -> dict[str, list[_Held]]:
        """By item, where its experts lie; the oldest segment's items first."""
        found: dict[str, list[_Held]] = {}
        for segment in self.chain:
            for own in load_owns(self.registry, segment, self.model.identity):
                for place, item in enumerate(own.items):
                    found.setdefault(item.item_id, []).append(_Held(segment, own, place))
        return found

    @functools.cached_property
    def _documents(self) -> dict[str, Any]:
        documents = self.registry.queries.documents(self.domain, self.version, split="train")
        return {one.document_id: one for one in documents}

    def _item(self, document_id: str) -> ItemExperts:
        document, held = self._documents[document_id], self._held[document_id]
        is_told = document.kind == "fact" and document.text_object is not None
        highest_D = sum(one.own.up_ILRD[one.place, -1].float().sum(0) for one in held)
        return ItemExperts(
            document_id=document_id,
            title=document.title,
            statement=self.registry.queries.document_text(document) if is_told else "",
            owned=_owned(held),
            promotes=self._promoted(torch.as_tensor(highest_D)),
            nearest=self._nearest(document_id),
        )

    def _nearest(self, document_id: str) -> NearItem | None:
        names, added_IE = self._added[self._held[document_id][0].own.host_layers]
        place = names.index(document_id)
        if len(names) == 1 or not added_IE[place].any():
            return None
        alike_I = added_IE @ added_IE[place]
        alike_I[place] = -torch.inf
        best = int(alike_I.argmax())
        title = self._documents[names[best]].title
        return NearItem(names[best], title, float(alike_I[best]))

    @functools.cached_property
    def _added(self) -> dict[tuple[int, ...], tuple[list[str], Tensor]]:
        """By the host layers of own experts, items and what theirs add, of length one.

        Summed over the experts of a layer: which of them adds what is an accident of their seed.
        """
        sums: dict[tuple[int, ...], dict[str, Tensor]] = {}
        for document_id, held in self._held.items():
            for _, own, place in held:
                added_E = own.up_ILRD[place].detach().float().sum(1).flatten()
                of_layers = sums.setdefault(own.host_layers, {})
                of_layers[document_id] = of_layers.get(document_id, 0) + added_E
        return {
            layers: ([*added], functional.normalize(torch.stack([*added.values()]), dim=-1))
            for layers, added in sums.items()
        }

    # Shared experts

    def _expert(self, segment: Segment, host_layer: int, expert: int, share: float) -> Expert:
        layers = [one.layer(host_layer) for one in self._loaded[segment.id].values()]
        up_ND = torch.cat([layer.experts.up_ND for layer in layers])
        promotes = self._promoted(up_ND[expert].float())
        return Expert(segment.label, segment.id, host_layer, expert, share, promotes)

    @functools.cached_property
    def _loaded(self) -> dict[str, dict[int, PoolSegment]]:
        loaded = load_shards(self.registry, self.domain, self.shared, self.model.identity)
        return {row.id: segment for row, segment in zip(self.shared, loaded, strict=True)}

    @torch.no_grad()
    def _promoted(self, up_D: Tensor) -> list[str]:
        """Return the tokens that an output raises most; none where it is zero."""
        if not up_D.any():
            return []
        unembedding: Any = self.model.base.get_output_embeddings()
        raised_V = unembedding(up_D.to(self.model.device, self.model.base.dtype)).float()
        best = raised_V.topk(NUM_PROMOTED).indices.tolist()
        return [str(self.tokenizer.decode([token])) for token in best]


def owned_experts(registry: Registry, places: Sequence[DocumentPlace]) -> list[Owned]:
    """Return the experts that a document owns in each place that holds it; loads no model."""
    found = []
    for place in places:
        document = place.document
        segment = registry.queries.chain(document.segment_id)[-1]
        held = [
            _Held(segment, own, number)
            for own in load_owns(registry, segment, store_identity(registry))
            for number, item in enumerate(own.items)
            if item.item_id == document.document_id
        ]
        found += [_owned(held)] if held else []
    return found


@dataclass(frozen=True)
class TaughtQuestion:
    """A question on a passage: it was learned with it, or is kept to be asked."""

    document_id: str
    question: str
    answer: str
    source: str
    """Who made it: own, built-in, or endpoint: and the model's name."""
    is_kept: bool


def study_questions(registry: Registry, domain: str) -> list[TaughtQuestion]:
    """Return the questions that a domain's live version was taught, or keeps; loads no model.

    Raises: UnknownError: for an unknown domain.
    """
    found = []
    for segment in registry.queries.domain(domain).chain:
        for own in load_owns(registry, segment, store_identity(registry), ["passages"]):
            for item in own.items:
                for is_kept, asked in ((False, item.questions), (True, item.kept)):
                    found += [TaughtQuestion(item.item_id, *one, is_kept) for one in asked]
    return found


def _owned(held: Sequence[_Held]) -> Owned:
    segment = held[-1].segment
    tensors = [
        tensor[place]
        for _, own, place in held
        for tensor in (
            own.down_ILRD,
            own.up_ILRD,
            own.relations_IKE,
            own.texts,
            own.vectors,
        )
        if len(tensor)
    ]
    return Owned(
        domain=segment.domain,
        label=segment.label,
        num_experts=sum(len(own.host_layers) * own.num_experts for _, own, _ in held),
        num_host_layers=len({layer for _, own, _ in held for layer in own.host_layers}),
        size_bytes=sum(tensor.nbytes for tensor in tensors),
    )


def segment_weights(registry: Registry, segment: Segment) -> dict[int, Tensor]:
    """Return the router weight (N,) of a segment's shared experts, by host layer, ascending.

    Experts are numbered one shard after the other.
    """
    shards = [read_use(registry.objects.read(one)) for one in segment.objects_of("use").values()]
    return {layer: torch.cat([own[layer] for own in shards]) for layer in segment.host_layers}


def layer_use(segment: Segment, host_layer: int, weights_N: Tensor) -> LayerUse:
    """Return how the experts of a layer are used."""
    weights = weights_N.tolist()
    return LayerUse(
        label=segment.label,
        segment_id=segment.id,
        host_layer=host_layer,
        num_experts=len(weights),
        usage=expert_usage(weights),
        unevenness=unevenness(weights),
        num_dead=weights.count(0.0),
    )


def _shares(weights_N: Tensor) -> list[float]:
    """Return each expert's share of its layer's weight."""
    weights_N = weights_N.double()
    shares: list[float] = (weights_N / weights_N.sum().clamp_min(1e-30)).tolist()
    return shares


def parse_expert(text: str) -> tuple[int, int]:
    """Return the host layer and the expert that "LAYER:EXPERT" means."""
    layer, _, expert = text.partition(":")
    if not (layer.isdecimal() and expert.isdecimal()):
        raise UnknownError(f"an expert is named LAYER:EXPERT, for example 9:412, not {text!r}")
    return int(layer), int(expert)
