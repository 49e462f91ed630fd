"""A domain's shared experts: how evenly they are used, what each holds, promotes and resembles.

Shape suffixes: D width, N experts, V vocabulary.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer_cl.errors import StateError, UnknownError
from peer_cl.model import PeerModel
from peer_cl.pool import Segment as PoolSegment
from peer_cl.usage import expert_usage, unevenness
from pipelines.loading import check_loaded, empty_model, load_segments, load_store_base, snapshot_of
from pipelines.usage import read_inputs
from stores.index import VectorIndex
from stores.queries import ExpertUse, HeldBy, Segment, Snapshot
from stores.registry import Registry

RARELY_USED = 0.25
"""Experts below this share of the mean weight are used too rarely to be called specific."""
NUM_PROMOTED = 5
NUM_NEAR = 3


@dataclass(frozen=True)
class LayerUse:
    """How the experts of one segment and host layer are used by what the segment learned."""

    label: str
    segment_id: str
    host_layer: int
    num_experts: int
    usage: float
    """Share of experts that were active at all."""
    unevenness: float
    """Nats: 0 is even, log N is one expert alone."""
    num_dead: int
    num_documents: int
    """Documents that the segment learned."""
    effective_documents: float
    """Mean over experts, weighted by their use: specific experts have few."""


@dataclass(frozen=True)
class NearExpert:
    """An expert of another domain that has read similar inputs."""

    domain: str
    label: str
    """Of the version that it came with."""
    host_layer: int
    expert: int
    similarity: float
    """Cosine of the angle between the experts' mean inputs."""


@dataclass(frozen=True)
class Expert:
    """One expert."""

    label: str
    segment_id: str
    host_layer: int
    expert: int
    weight_share: float
    """Of its layer's weight in the product-key router."""
    num_documents: int
    effective_documents: float
    promotes: list[str]
    """Tokens that its output raises most, read through the unembedding; none if it adds nothing."""
    is_zero: bool
    """Whether it adds nothing: it never learned."""
    near: list[NearExpert]


@dataclass(frozen=True)
class ExpertsReport:
    """A domain's experts in short."""

    domain: str
    version: str
    layers: list[LayerUse]
    busiest: list[Expert]
    most_specific: list[Expert]


@dataclass(frozen=True)
class ExpertDetail:
    """One expert, and what it holds."""

    expert: Expert
    held: HeldBy | None
    """None where nothing that was learned uses it."""


class DomainExperts:
    """An active domain's shared experts with what is recorded of them.

    Only the base of the model is used; by default it is loaded. The default snapshot is the one
    that the model was loaded from, or the live one.

    Raises: UnknownError, StateError: for a domain that is not active or learned no text, or an
    unknown expert.
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
        chain = registry.queries.chain(self.version)
        self.chain = [segment for segment in chain if segment.pool_object is not None]
        if not self.chain:
            raise StateError(
                f"{domain!r} has no shared experts: it learned facts alone, each by experts of its "
                f"own; `peer-cl documents {domain}` lists them"
            )
        self.uses = registry.uses.expert_uses([segment.id for segment in self.chain])
        if model is None:
            base = load_store_base(registry)
            model, tokenizer = empty_model(registry, base), base.tokenizer
        self.model, self.tokenizer = model, tokenizer
        self.segments = {segment.id: segment for segment in self.chain}

    def report(self, num: int = 10, host_layer: int | None = None) -> ExpertsReport:
        """Return use by layer (or of one), and the `num` busiest and most specific experts."""
        self._check_layer(host_layer)
        layers, shares = [], {}
        for segment in self.chain:
            num_learned = self.registry.uses.num_learned(segment.id)
            for layer in segment.host_layers:
                if host_layer not in (None, layer):
                    continue
                own = own_uses(self.uses, segment, layer)
                layers.append(layer_use(segment, layer, own, num_learned))
                total = sum(use.weight for use in own) or 1.0
                shares.update({use: use.weight / total for use in own})
        busiest = sorted(shares, key=lambda use: (-shares[use], _place(use)))
        mean = sum(shares.values()) / max(1, len(shares))
        used = [use for use in shares if shares[use] >= RARELY_USED * mean]
        specific = sorted(used, key=lambda u: (u.effective_documents, -u.weight, _place(u)))
        return ExpertsReport(
            self.domain,
            self.version,
            layers,
            [self._expert(use, shares[use]) for use in busiest[:num]],
            [self._expert(use, shares[use]) for use in specific[:num]],
        )

    def expert(self, host_layer: int, expert: int, label: str | None = None) -> ExpertDetail:
        """Return one expert of the domain's newest segment, or of the version a label names."""
        self._check_layer(host_layer)
        chosen = [segment for segment in self.chain if label in (None, segment.label)]
        if not chosen:
            known = ", ".join(segment.label for segment in self.chain)
            what = f"{self.domain} has no live version {label!r} with shared experts"
            raise UnknownError(f"{what}; it has {known}")
        segment, num = chosen[-1], experts_a_layer(chosen[-1])
        if not 0 <= expert < num:
            where = f"at layer {host_layer} of {self.domain}"
            raise UnknownError(f"no expert {expert} {where}; it has 0 to {num - 1}")
        held = self.registry.uses.held_by(segment.id, {host_layer: [expert]})
        total = sum(use.weight for use in own_uses(self.uses, segment, host_layer)) or 1.0
        use = held[0].use if held else ExpertUse(segment.id, host_layer, expert, 0.0, 0, 0.0)
        return ExpertDetail(self._expert(use, use.weight / total), held[0] if held else None)

    def _check_layer(self, host_layer: int | None) -> None:
        known = sorted({layer for segment in self.chain for layer in segment.host_layers})
        if host_layer is not None and host_layer not in known:
            what = f"{self.domain} has no experts at layer {host_layer}"
            raise UnknownError(f"{what}; its host layers are {', '.join(map(str, known))}")

    @torch.no_grad()
    def _expert(self, use: ExpertUse, share: float) -> Expert:
        layer = self._loaded[use.segment_id].layer(use.host_layer)
        up_D = layer.experts.up_ND[use.expert].detach()
        is_zero = not up_D.any()
        unembedding: Any = self.model.base.get_output_embeddings()
        raised_V = unembedding.weight.float() @ up_D.float().to(unembedding.weight.device)
        best = [] if is_zero else raised_V.topk(NUM_PROMOTED).indices.tolist()
        return Expert(
            label=self.segments[use.segment_id].label,
            segment_id=use.segment_id,
            host_layer=use.host_layer,
            expert=use.expert,
            weight_share=share,
            num_documents=use.num_documents,
            effective_documents=use.effective_documents,
            promotes=[str(self.tokenizer.decode([token])) for token in best],
            is_zero=is_zero,
            near=self._near(use),
        )

    @functools.cached_property
    def _loaded(self) -> dict[str, PoolSegment]:
        loaded = load_segments(self.registry, self.domain, self.chain, self.model.identity)
        return dict(zip(self.segments, loaded, strict=True))

    def _near(self, use: ExpertUse) -> list[NearExpert]:
        """Return the experts of other domains at the layer that have read similar inputs."""
        own = self._own_inputs[use.segment_id].get(use.host_layer)
        if own is None or not own[use.expert].any():
            return []
        index = self._neighbours[use.host_layer]
        (found,) = index.nearest_rows(own[use.expert][None], NUM_NEAR)
        return [
            NearExpert(owner.domain, owner.label, use.host_layer, one.row, one.similarity)
            for one in found
            for owner in [self._others[one.name]]
        ]

    def _mean_inputs(self, segment: Segment) -> dict[int, NDArray[np.float32]]:
        """Return what a segment's experts read in the mean, by host layer."""
        stored = segment.use_object
        return read_inputs(self.registry.objects.read(stored)) if stored else {}

    @functools.cached_property
    def _own_inputs(self) -> dict[str, dict[int, NDArray[np.float32]]]:
        return {segment.id: self._mean_inputs(segment) for segment in self.chain}

    @functools.cached_property
    def _others(self) -> dict[str, Segment]:
        """The segments of the other enabled domains."""
        others = [s for s in self.snapshot.domains if s.is_enabled and s.domain != self.domain]
        chains = [self.registry.queries.chain(state.version) for state in others]
        return {segment.id: segment for chain in chains for segment in chain}

    @functools.cached_property
    def _neighbours(self) -> dict[int, VectorIndex]:
        """Their experts by host layer."""
        indexes: dict[int, VectorIndex] = defaultdict(VectorIndex)
        for segment in self._others.values():
            for layer, inputs in self._mean_inputs(segment).items():
                indexes[layer].add(segment.id, inputs, as_directions=True)
        return indexes


def layer_use(
    segment: Segment, host_layer: int, own: Sequence[ExpertUse], num_learned: int
) -> LayerUse:
    """Return how a layer's experts are used; `own` is of those that were active."""
    num = experts_a_layer(segment)
    weights_N = [use.weight for use in own] + [0.0] * (num - len(own))
    total = sum(weights_N) or 1.0
    return LayerUse(
        label=segment.label,
        segment_id=segment.id,
        host_layer=host_layer,
        num_experts=num,
        usage=expert_usage(weights_N),
        unevenness=unevenness(weights_N),
        num_dead=num - len(own),
        num_documents=num_learned,
        effective_documents=sum(use.weight * use.effective_documents for use in own) / total,
    )


def own_uses(uses: Sequence[ExpertUse], segment: Segment, host_layer: int) -> list[ExpertUse]:
    """Return those of some uses that are of one host layer of a segment."""
    return [u for u in uses if (u.segment_id, u.host_layer) == (segment.id, host_layer)]


def experts_a_layer(segment: Segment) -> int:
    """Return how many experts a segment has in each of its host layers."""
    return segment.num_experts // max(1, len(segment.host_layers))


def parse_expert(text: str) -> tuple[int, int]:
    """Return the host layer and the expert that "LAYER:EXPERT" means."""
    layer, _, expert = text.partition(":")
    if not (layer.isdecimal() and expert.isdecimal()):
        raise UnknownError(f"an expert is named LAYER:EXPERT, for example 9:412, not {text!r}")
    return int(layer), int(expert)


def _place(use: ExpertUse) -> tuple[str, int, int]:
    return use.segment_id, use.host_layer, use.expert
