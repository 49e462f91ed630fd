"""Masks: rows of a domain's older segments that are off, as one element of its chain.

A mask changes no stored segment. It is laid over the loaded copy, so rolling it back gives the old
bits, and whatever is loaded from an older snapshot does not know it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from peer_cl.errors import DamageError
from peer_cl.pool import Segment

if TYPE_CHECKING:
    from stores import Registry

FORMAT = "peer-cl-mask-1"
_NAME = re.compile(r"rows\.([0-9a-f]{32})\.([0-9]+)")

Rows = Mapping[tuple[str, int], Collection[int]]
"""By (segment's id, host layer): row numbers."""


@dataclass(frozen=True)
class Mask:
    """Which rows are off."""

    rows: dict[tuple[str, int], tuple[int, ...]]
    """By (segment's id, host layer): row numbers, ascending; none is empty."""

    @classmethod
    def of(cls, rows: Rows) -> Mask:
        """Return the mask of some rows, whatever their order.

        Example:
            >>> Mask.of({("a" * 32, 3): [7, 2], ("a" * 32, 9): []}).rows == {("a" * 32, 3): (2, 7)}
            True
        """
        ordered = {place: tuple(sorted(set(rows[place]))) for place in sorted(rows)}
        return cls({place: found for place, found in ordered.items() if found})

    @property
    def num_rows(self) -> int:
        """How many rows are off."""
        return sum(len(found) for found in self.rows.values())

    @property
    def host_layers(self) -> tuple[int, ...]:
        """The host layers in which rows are off, ascending."""
        return tuple(sorted({layer for _, layer in self.rows}))

    def without(self, rows: Rows) -> Mask:
        """Return what it switches off besides some rows."""
        return Mask.of(
            {place: set(found) - set(rows.get(place, ())) for place, found in self.rows.items()}
        )

    def apply(self, segments: Mapping[str, Segment]) -> None:
        """Switch the rows off in loaded segments: what they add becomes zero, in place.

        Args:
            segments: by id; every segment that the mask names.

        Raises:
            DamageError: when a segment, a layer or a row that it names is not there.
        """
        for (segment_id, layer), found in self.rows.items():
            segment = segments.get(segment_id)
            if segment is None or layer not in segment.host_layers:
                raise DamageError(f"a mask names layer {layer} of {segment_id}, which is not there")
            if found[-1] >= segment.shape.num_experts:
                raise DamageError(
                    f"a mask names row {found[-1]} of {segment.shape.num_experts} in {segment_id}"
                )
            segment.layer(layer).experts.up_ND.data[list(found)] = 0.0

    def to_bytes(self) -> bytes:
        """Return it as safetensors bytes; equal masks give equal bytes."""
        tensors = {
            f"rows.{segment_id}.{layer}": torch.tensor(found, dtype=torch.int64)
            for (segment_id, layer), found in sorted(self.rows.items())
        }
        return save(tensors, metadata={"mask": json.dumps({"format": FORMAT})})

    @classmethod
    def from_bytes(cls, data: bytes) -> Mask:
        """Return the mask in bytes that `to_bytes` wrote.

        Raises:
            DamageError: when they are no mask.
        """
        try:
            tensors = load(data)
        except SafetensorError as error:
            raise DamageError(f"a mask cannot be read as safetensors: {error}") from error
        rows = {}
        for name, found in tensors.items():
            place = _NAME.fullmatch(name)
            if place is None or found.dtype != torch.int64 or found.dim() != 1 or not len(found):
                raise DamageError(f"a mask holds {name!r} with {found.dtype}, which is no mask's")
            rows[place[1], int(place[2])] = found.tolist()
        return cls.of(rows)


def masked_documents(registry: Registry, domain: str) -> dict[str, tuple[str, ...]]:
    """Return the ids of the documents that each mask ever made in a domain is for, by its id."""
    runs = registry.domain(domain).runs
    return {run.segment_id: tuple(run.config.get("erases", ())) for run in runs}
