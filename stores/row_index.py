"""FAISS over expert rows: which rows have read what is like this?

A row's vector is the mean of what it read in the documents that its segment learned, made of length
one. All rows of one host layer lie in one flat index, which needs no training: no pool can change
another's result. It is built from the store's verified objects whenever it is needed; a copy on
disk would hold the same bytes once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from peer_cl.errors import InputError, ShapeError
from stores.faiss_extra import import_faiss

faiss = import_faiss()

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A row that is near to a vector."""

    segment_id: str
    row: int
    similarity: float
    """Cosine of the angle between them, -1 to 1."""


class RowIndex:
    """The rows of one host layer, over any number of segments.

    Args:
        inputs: by segment id, float (N, D): each row's mean input; a row of zeros never fired and
            is left out.

    Raises:
        ShapeError: when segments differ in width.
        InputError: when a value is not finite.
    """

    def __init__(self, inputs: Mapping[str, Floats]) -> None:
        widths = {vectors.shape[1] for vectors in inputs.values()}
        if len(widths) > 1:
            raise ShapeError(f"the rows' vectors differ in width: {sorted(widths)}")
        self._segments = sorted(inputs)
        self._owners: NDArray[np.int64] = np.empty(0, np.int64)
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._index: Any = None
        for owner, segment_id in enumerate(self._segments):
            self._add(owner, np.asarray(inputs[segment_id], np.float32))

    def _add(self, owner: int, vectors_ND: Floats) -> None:
        if not np.isfinite(vectors_ND).all():
            raise InputError(f"rows of segment {self._segments[owner]} are not finite")
        if self._index is None:
            self._index = faiss.IndexFlatIP(vectors_ND.shape[1])
        lengths_N = np.linalg.norm(vectors_ND, axis=1)
        fired = np.flatnonzero(lengths_N > 0)
        self._index.add(np.ascontiguousarray(vectors_ND[fired] / lengths_N[fired, None]))
        self._owners = np.concatenate([self._owners, np.full(len(fired), owner)])
        self._rows = np.concatenate([self._rows, fired])

    def __len__(self) -> int:
        """Return how many rows can be found."""
        return len(self._rows)

    def search(self, vectors: Floats, num: int) -> list[list[Neighbour]]:
        """Return, for each vector (T, D), the `num` nearest rows, the nearest first."""
        if not len(self):
            return [[] for _ in vectors]
        lengths_T1 = np.linalg.norm(vectors, axis=1, keepdims=True)
        queries_TD = np.ascontiguousarray(vectors / np.maximum(lengths_T1, 1e-30), np.float32)
        found_TK, places_TK = self._index.search(queries_TD, min(num, len(self)))
        return [
            [
                Neighbour(self._segments[self._owners[place]], int(self._rows[place]), float(like))
                for place, like in zip(places, likes, strict=True)
            ]
            for places, likes in zip(places_TK, found_TK, strict=True)
        ]
