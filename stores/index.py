"""FAISS over sets of vectors: router centroids by domain, and a domain's units for requests.

Made from stored objects in memory, and never saved. Each set has an exact flat index of its own, so
no set can change another's distances. The distances themselves are computed again, in fp64, from
the vectors that FAISS chose: its own depend, in the last bits, on how many queries come at once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from peer_cl.errors import InputError, ShapeError, UnsupportedError

Floats: TypeAlias = NDArray[np.float32]
_CANDIDATES = 2  # near ties in FAISS's arithmetic are settled in fp64
_ROWS_AT_A_TIME = 4096


@functools.cache
def _faiss() -> Any:
    """Return the module, which takes a while to import: most questions need no search."""
    try:
        import faiss
    except ImportError as error:  # its two builds collide, so neither can be a plain dependency
        raise UnsupportedError(
            'FAISS is not installed: run `pip install "peer-cl[cpu]"` (or `peer-cl[gpu]`)'
        ) from error
    return faiss


class VectorIndex:
    """Named sets of vectors of one width, searched exactly."""

    def __init__(self, sets: Mapping[str, Floats] | None = None) -> None:
        self.names: list[str] = []
        self._vectors: dict[str, Floats] = {}
        self._searchers: dict[str, Any] = {}
        for name in sorted(sets or {}):
            self.add(name, (sets or {})[name])

    def add(self, name: str, vectors: Floats) -> None:
        """Add a set of vectors, float32 (C, D).

        Raises: ShapeError, InputError: when widths differ, or a value is not finite.
        """
        vectors_CD = _checked(f"the vectors of {name!r}", vectors)
        for other, found in self._vectors.items():
            if found.shape[1] != vectors_CD.shape[1]:
                raise ShapeError(
                    f"the vectors of {name!r} have width {vectors_CD.shape[1]}, those of {other!r} "
                    f"{found.shape[1]}"
                )
        self.names.append(name)
        self._vectors[name] = vectors_CD

    def distances(self, vectors: Floats, names: Sequence[str] | None = None) -> Floats:
        """Return the squared distance (T, P) of each query (T, D) to the nearest of some sets.

        The same bits as `peer_cl.router.nearest_distances`; sets in the order of `names`, default:
        all.
        """
        queries_TD = _checked("the queries", vectors, least=0)
        names = self.names if names is None else names
        distances_TP = np.empty((len(queries_TD), len(names)), dtype=np.float32)
        for column, name in enumerate(names):
            vectors_CD = self._vectors[name]
            num = min(_CANDIDATES, len(vectors_CD))
            _, ids_TK = self._searcher(name).search(queries_TD, num)
            gaps_TKD = queries_TD[:, None].astype(np.float64) - vectors_CD[ids_TK]
            distances_TP[:, column] = np.square(gaps_TKD).sum(-1).min(-1)
        return distances_TP

    def _searcher(self, name: str) -> Any:
        if name not in self._searchers:
            vectors_CD = self._vectors[name]
            index = _faiss().IndexFlatL2(vectors_CD.shape[1])
            index.add(vectors_CD)
            self._searchers[name] = index
        return self._searchers[name]


class NearestVectors:
    """Vectors of length one, fp32 (V, E), searched exactly by their cosine to one."""

    def __init__(self, vectors: Floats) -> None:
        self.vectors_VE = _checked("the vectors of units", vectors)
        self._index: Any = None

    def find(self, query: Floats, num: int) -> list[int]:
        """Return the numbers of the vectors that are nearest to one (E,), the nearest first."""
        if self._index is None:
            self._index = _faiss().IndexFlatIP(self.vectors_VE.shape[1])
            self._index.add(self.vectors_VE)
        _, ids_1K = self._index.search(_checked("the query", query[None]), num)
        return [int(one) for one in ids_1K[0] if one >= 0]


def kmeans(vectors: Floats, num: int, seed: int) -> Floats:
    """Return at most `num` centroids, float32 (C, D); the same bits for the same arguments.

    With `num` distinct vectors or fewer, these themselves are returned, sorted. One thread: the
    order of additions decides the last bits.
    """
    vectors_TD = _checked("the vectors", vectors)
    distinct = _distinct(vectors_TD, num)
    if len(distinct) <= num:
        return distinct
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        trainer = faiss.Kmeans(
            vectors_TD.shape[1], num, niter=25, seed=seed, min_points_per_centroid=1, verbose=False
        )
        trainer.train(vectors_TD)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.array(trainer.centroids, dtype=np.float32).reshape(num, -1)


def _distinct(vectors_TD: Floats, most: int) -> Floats:
    """Return the distinct rows, sorted, or the first more than `most` of them."""
    found = vectors_TD[:0]
    for start in range(0, len(vectors_TD), _ROWS_AT_A_TIME):
        piece = vectors_TD[start : start + _ROWS_AT_A_TIME]
        found = np.unique(np.concatenate([found, piece]), axis=0)
        if len(found) > most:
            break
    return found


def _checked(what: str, vectors: Floats, *, least: int = 1) -> Floats:
    """Return finite float32 rows, contiguous."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < least or rows.shape[1] < 1:
        raise ShapeError(f"{what} must be a matrix of at least {least} rows, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError(f"{what} hold values that are not finite")
    return rows
