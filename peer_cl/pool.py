"""A domain's pool: a chain of segments, each with its own keys and experts in every host layer.

A segment's file is safetensors: tensors named `layers.<host layer>.<parameter>`, and a JSON header
with the shape, the host layers, the base's hashes and a hash over all of it. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from peer_cl.bases import BaseIdentity, seal, tensors_sha256, unseal
from peer_cl.errors import InputError
from peer_cl.items import ItemIndex
from peer_cl.layer import PeerLayer, PoolShape
from peer_cl.own import OwnExperts
from peer_cl.router import RouterKey

FORMAT = "peer-cl-segment-2"


class Segment(nn.Module):
    """The PEER layers of one shard of an ingest, one a host layer. Frozen once it is trained.

    Args:
        width: D of the base.
        host_layers: the decoder layers that carry it, ascending.
        shape: the layers' shape.
    """

    def __init__(self, *, width: int, host_layers: Sequence[int], shape: PoolShape) -> None:
        super().__init__()
        self.width, self.host_layers, self.shape = width, tuple(host_layers), shape
        self.layers = nn.ModuleDict(
            {str(layer): PeerLayer(width=width, shape=shape) for layer in host_layers}
        )

    def layer(self, host_layer: int) -> PeerLayer:
        """Return the PEER layer at a host layer."""
        return cast(PeerLayer, self.layers[str(host_layer)])

    def peer_layers(self) -> list[PeerLayer]:
        """Return the PEER layers, from the lowest host layer up."""
        return [self.layer(host_layer) for host_layer in self.host_layers]

    def scaled(self, factor: float) -> Segment:
        """Return these experts with all that they add multiplied; the weights are shared."""
        shape = replace(self.shape, output_scale=self.shape.output_scale * factor)
        with torch.random.fork_rng(devices=[]):
            found = Segment(width=self.width, host_layers=self.host_layers, shape=shape)
        found.load_state_dict(self.state_dict(), assign=True)
        return found.requires_grad_(False)

    def to_bytes(self, identity: BaseIdentity) -> bytes:
        """Return safetensors bytes for the base it was trained on; equal segments, equal bytes."""
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in sorted(self.state_dict().items())
        }
        about = {
            "format": FORMAT,
            "width": self.width,
            "host_layers": list(self.host_layers),
            "shape": asdict(self.shape),
        }
        return seal("segment", about, tensors, identity)

    def sha256(self) -> str:
        """Return a hash over every tensor, by name: equal exactly when the weights are."""
        return tensors_sha256(self.state_dict())


def load_segment(source: Path | bytes, identity: BaseIdentity, *, name: str = "") -> Segment:
    """Return the segment in a file, or in bytes, that `Segment.to_bytes` wrote.

    `identity` is of the base that it is to be used with; `name` is what messages call it.

    Raises:
        InputError: when there is no such file.
        DamageError: when this is no segment, or any byte changed since it was written.
        BaseMismatchError: when it was trained for another base or tokenizer; both hashes shown.
    """
    if isinstance(source, Path):
        if not source.is_file():
            raise InputError(f"there is no segment file {source}")
        return load_segment(source.read_bytes(), identity, name=name or source.name)
    about, tensors = unseal(
        source, "segment", FORMAT, identity, name=name or "the segment", what="a segment"
    )
    # It is drawn at random first: the caller's draws stay the same. No device is woken for it.
    with torch.random.fork_rng(devices=[]):
        segment = Segment(
            width=about["width"],
            host_layers=about["host_layers"],
            shape=PoolShape(**about["shape"]),
        )
    own = {key: tensor.clone() for key, tensor in tensors.items()}
    segment.load_state_dict(own, assign=True)
    return segment.requires_grad_(False)


class ExpertPool(nn.Module):
    """One domain's knowledge: shared experts, own experts, and the keys by which it is found.

    Args:
        name: the pool's name, shown to people; it never names a file.
        segments: shared experts, a segment for each shard of an ingest of texts, oldest first; on
            the same base.
        key: what the router compares a text with; None: no text is like the domain's.
        own: own experts, one list an ingest of facts, oldest first.
    """

    def __init__(
        self,
        name: str,
        segments: Sequence[Segment] = (),
        key: RouterKey | None = None,
        own: Sequence[OwnExperts] = (),
    ) -> None:
        super().__init__()
        self.name, self.segments, self.key = name, nn.ModuleList(segments), key
        self.own = nn.ModuleList(own)
        self.items = ItemIndex(own)
        """Its items, numbered one list after the other."""
        layers = {n for one in segments for n in one.host_layers}
        self.host_layers = sorted(layers.union(*(one.host_layers for one in own)))
        """The decoder layers that carry its experts, ascending."""

    def own_experts(self) -> list[OwnExperts]:
        """Return its own experts, oldest first."""
        return [cast(OwnExperts, one) for one in self.own]

    def chain(self) -> list[Segment]:
        """Return the segments, oldest first."""
        return [cast(Segment, segment) for segment in self.segments]


def pool_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names of pools as a tuple; a string alone is one name."""
    return (names,) if isinstance(names, str) else tuple(names)
