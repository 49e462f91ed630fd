"""A domain's experts: how evenly they are used, and what a row holds, promotes and resembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import StateError, UnknownError
from peer_cl.model import PeerModel
from peer_cl.pool import Segment as PoolSegment
from pipelines.layer_use import LayerUse, layer_use, own_uses, rows_a_layer
from pipelines.loading import check_loaded, load_chain, snapshot_of
from pipelines.recording import Floats, read_inputs
from stores import ExpertUse, HeldBy, Segment, Snapshot
from stores.records import ROWS

if TYPE_CHECKING:
    from pipelines.store import Store

QUIET_SHARE = 0.25
"""Rows below this share of the mean weight are too quiet to be called specific."""
A_LITTLE = 0.1
"""Length of the step along a row by which what it turns is told."""


@dataclass(frozen=True)
class NearRow:
    """A row of another pool that has read what is like it."""

    domain: str
    label: str
    """Of the version that it came with."""
    host_layer: int
    row: int
    similarity: float
    """Cosine of the angle between the rows' mean inputs."""


@dataclass(frozen=True)
class Expert:
    """One row."""

    label: str
    segment_id: str
    host_layer: int
    row: int
    weight_share: float
    """Of its layer's router weight."""
    num_documents: int
    effective_documents: float
    promotes: list[str]
    """Tokens that its up-row raises most, read through the unembedding; none of a silent row."""
    is_silent: bool
    """Whether it adds nothing: a mask switched it off, or it never learned."""
    near: list[NearRow]


@dataclass(frozen=True)
class ExpertsReport:
    """What there is to say of a domain's experts."""

    domain: str
    version: str
    layers: list[LayerUse]
    busiest: list[Expert]
    most_specific: list[Expert]


@dataclass(frozen=True)
class ExpertDetail:
    """One row, and what it holds."""

    expert: Expert
    held: HeldBy | None
    """None where nothing that was learned uses it."""


class DomainExperts:
    """A domain's rows with what is recorded of them.

    Args:
        store: an open store.
        domain: live and enabled.
        model: of the store; its pools are not used, only the base; default: loaded here.
        tokenizer: the base's, with a model.
        snapshot: of the domain and its neighbours; default: the one that the model was loaded
            from, or the live one.

    Raises:
        UnknownError, StateError: when the domain is not there, or disabled, nothing is recorded of
            it, or the model holds another version of it than the snapshot.
    """

    def __init__(
        self,
        store: Store,
        domain: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        registry = store.registry
        self.registry, self.domain = registry, domain
        self.snapshot = snapshot or snapshot_of(registry, model)
        self.version = registry.check_askable(domain, self.snapshot).version
        if model is not None and domain in model.active_pools:
            check_loaded(registry, model, self.snapshot, [domain])
        self.chain = [s for s in registry.chain(self.version) if s.kind == ROWS]
        self.uses = registry.expert_uses([segment.id for segment in self.chain])
        if not self.uses:
            raise StateError(
                f"no use of rows is recorded for {domain!r}: it was learned by an older version; "
                "roll it back and ingest it again"
            )
        if model is None:
            model, tokenizer = store.load_base()
        self.model, self.tokenizer = model, tokenizer
        self.labels = {segment.id: segment.label for segment in self.chain}
        self._pools: dict[str, PoolSegment] = {}
        self._read: dict[str, dict[int, Floats]] = {}
        self._others: dict[int, Any] = {}
        self._owners: dict[str, Segment] = {}

    def report(self, num: int = 10, host_layer: int | None = None) -> ExpertsReport:
        """Return use by layer, and the busiest and most specific rows.

        Args:
            num: how many rows of each kind.
            host_layer: only this one.

        Raises: UnknownError: when the domain has no rows at that layer.
        """
        self._check_layer(host_layer)
        layers, shares = [], {}
        for segment in self.chain:
            for layer in segment.host_layers:
                own = own_uses(self.uses, segment, layer)
                if host_layer in (None, layer):
                    num_learned = self.registry.num_learned(segment.id)
                    layers.append(layer_use(segment, layer, own, num_learned))
                    total = sum(use.weight for use in own) or 1.0
                    for use in own:
                        shares[use] = use.weight / total
        busiest = sorted(shares, key=lambda use: (-shares[use], _place(use)))[:num]
        mean = sum(shares.values()) / max(1, len(shares))
        heard = [use for use in shares if shares[use] >= QUIET_SHARE * mean]
        specific = sorted(
            heard, key=lambda use: (use.effective_documents, -use.weight, _place(use))
        )
        return ExpertsReport(
            self.domain,
            self.version,
            layers,
            [self._expert(use, shares[use]) for use in busiest],
            [self._expert(use, shares[use]) for use in specific[:num]],
        )

    def row(self, host_layer: int, row: int, label: str | None = None) -> ExpertDetail:
        """Return one row of the domain's newest segment, or of the version that a label names.

        Raises: UnknownError: when there is no such row.
        """
        self._check_layer(host_layer)
        chosen = [segment for segment in self.chain if label in (None, segment.label)]
        if not chosen:
            raise UnknownError(
                f"{self.domain} has no live version {label!r}; it has "
                f"{', '.join(self.labels.values())}"
            )
        segment = chosen[-1]
        num_rows = rows_a_layer(segment)
        if not 0 <= row < num_rows:
            raise UnknownError(
                f"no row {row} at layer {host_layer} of {self.domain}; it has 0 to {num_rows - 1}"
            )
        held = self.registry.held_documents(segment.id, {host_layer: [row]})
        total = sum(use.weight for use in own_uses(self.uses, segment, host_layer)) or 1.0
        use = held[0].use if held else ExpertUse(segment.id, host_layer, row, 0.0, 0, 0.0)
        expert = self._expert(use, use.weight / total)
        return ExpertDetail(expert, held[0] if held else None)

    def _check_layer(self, host_layer: int | None) -> None:
        known = sorted({layer for segment in self.chain for layer in segment.host_layers})
        if host_layer is not None and host_layer not in known:
            raise UnknownError(
                f"{self.domain} has no rows at layer {host_layer}; its host layers are "
                f"{', '.join(map(str, known))}"
            )

    def _expert(self, use: ExpertUse, share: float) -> Expert:
        up_D = self._up_row(use)
        is_silent = not up_D.any()
        return Expert(
            label=self.labels[use.segment_id],
            segment_id=use.segment_id,
            host_layer=use.host_layer,
            row=use.row,
            weight_share=share,
            num_documents=use.num_documents,
            effective_documents=use.effective_documents,
            promotes=[] if is_silent else self._promoted(use, up_D),
            is_silent=is_silent,
            near=self._near(use),
        )

    def _pool(self, segment: Segment) -> PoolSegment:
        if not self._pools:  # the whole chain: its masks lie over the segments
            every = self.registry.chain(self.version)
            pools = load_chain(self.registry, self.domain, every, self.model.identity)
            self._pools = {s.id: pool for s, pool in zip(self.chain, pools, strict=True)}
        return self._pools[segment.id]

    def _up_row(self, use: ExpertUse) -> Tensor:
        """Return what the row adds, masks laid over it."""
        segment = next(s for s in self.chain if s.id == use.segment_id)
        return self._pool(segment).layer(use.host_layer).experts.up_ND[use.row].detach()

    def _promoted(self, use: ExpertUse, up_D: Tensor, num: int = 5) -> list[str]:
        """Return the tokens whose logits the row raises most; none where that is not known.

        A row that writes inside the feed-forward says something by the neurons that it turns: in
        what it mostly reads, which is not known of one that nothing used.
        """
        segment = next(s for s in self.chain if s.id == use.segment_id)
        if self._pool(segment).inner_width:
            inputs_D = self._inputs(use)
            if inputs_D is None:
                return []
            step_F = A_LITTLE * functional.normalize(up_D, dim=0)  # neurons bend what is larger
            dtype, device = self.model.dtype, self.model.device
            reads = (one[None].to(device, dtype) for one in (inputs_D, step_F))
            up_D = self.model.attachment.turned(use.host_layer, *reads)[0]
        unembedding: Any = self.model.base.get_output_embeddings()
        with torch.no_grad():
            raised_V = unembedding.weight.float() @ up_D.float()
        return [
            str(self.tokenizer.decode([token])) for token in raised_V.topk(num).indices.tolist()
        ]

    def _near(self, use: ExpertUse, num: int = 3) -> list[NearRow]:
        """Return the rows of other domains' pools at the layer that have read what is like it."""
        own = self._inputs(use)
        index = self._neighbours(use.host_layer)
        if own is None or not len(index):
            return []
        (found,) = index.search(own[None].numpy(), num)
        return [
            NearRow(owner.domain, owner.label, use.host_layer, one.row, one.similarity)
            for one in found
            for owner in [self._owners[one.segment_id]]
        ]

    def _inputs(self, use: ExpertUse) -> Tensor | None:
        segment = next(s for s in self.chain if s.id == use.segment_id)
        inputs = self._mean_inputs(segment).get(use.host_layer)
        if inputs is None or not inputs[use.row].any():
            return None
        return torch.from_numpy(inputs[use.row])

    def _mean_inputs(self, segment: Segment) -> dict[int, Floats]:
        if segment.id not in self._read:
            self._read[segment.id] = read_inputs(self.registry, segment)
        return self._read[segment.id]

    def _neighbours(self, layer: int) -> Any:
        """Return the index over the other domains' rows at a layer."""
        from stores.row_index import RowIndex

        if layer not in self._others:
            inputs = {}
            for state in self.snapshot.domains:
                if state.domain == self.domain or not state.is_enabled:
                    continue
                for segment in self.registry.chain(state.version):
                    found = self._mean_inputs(segment)
                    if layer in found:
                        inputs[segment.id] = found[layer]
                        self._owners[segment.id] = segment
            self._others[layer] = RowIndex(inputs)
        return self._others[layer]


def _place(use: ExpertUse) -> tuple[str, int, int]:
    return use.segment_id, use.host_layer, use.row


def parse_row(text: str) -> tuple[int, int]:
    """Return the host layer and the row that "LAYER:ROW" means.

    Raises: UnknownError: when it is no such thing.

    Example:
        >>> parse_row("9:412")
        (9, 412)
    """
    layer, _, row = text.partition(":")
    if not (layer.isdecimal() and row.isdecimal()):
        raise UnknownError(f"a row is named LAYER:ROW, for example 9:412, not {text!r}")
    return int(layer), int(row)
