"""FAISS over signatures: which pools may a text belong to? A cache, never a truth.

Each pool has an exact index of its own, so that no pool can change another's distances. The
distances themselves are computed again from the vectors that FAISS chose: its own depend, in the
last bits, on how many queries come at once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from peer_cl.errors import InputError, ShapeError
from stores.faiss_extra import import_faiss
from stores.index_files import SIGNATURES, load_index, save_index

faiss = import_faiss()

Floats: TypeAlias = NDArray[np.float32]
_COMPARED = 4096  # rows at a time
_HEADER = struct.Struct("<4siq")
"""How FAISS's bytes begin: what kind of index it is, the vectors' width, and how many there are."""
_CANDIDATES = 2  # near ties in FAISS's arithmetic are settled in ours


class SignatureIndex:
    """Nearest centroids of every pool. Built, saved and loaded whole.

    Args:
        indexes: A flat FAISS index for each pool, by the pool's name.
        centroids: The vectors in them.
    """

    def __init__(self, indexes: Mapping[str, Any], centroids: Mapping[str, Floats]) -> None:
        self.names = tuple(sorted(indexes))
        self._indexes = indexes
        self._centroids = centroids
        self._searchers = {name: _accelerated(indexes[name]) for name in self.names}

    @classmethod
    def build(cls, pools: Mapping[str, Floats]) -> SignatureIndex:
        """Build from each pool's centroids, float32 (C, D).

        Raises:
            ShapeError: when pools differ in width or have no centroids.
            InputError: when a vector is not finite.
        """
        centroids = {name: _checked(f"pool {name!r}", pools[name]) for name in pools}
        widths = {name: found.shape[1] for name, found in centroids.items()}
        if len(set(widths.values())) > 1:
            raise ShapeError(f"the pools' centroids differ in width: {widths}")
        indexes = {}
        for name, vectors in centroids.items():
            indexes[name] = faiss.IndexFlatL2(vectors.shape[1])
            indexes[name].add(vectors)
        return cls(indexes, centroids)

    def nearest(self, vectors: Floats) -> Floats:
        """Return the squared distance of each vector to each pool's nearest centroid.

        Args:
            vectors: float32 (T, D).
        Returns: float32 (T, P), pools in the order of `names`, which is sorted.
        """
        queries_TD = _checked("the queries", vectors, least=0)
        distances_TP = np.empty((len(queries_TD), len(self.names)), dtype=np.float32)
        for column, name in enumerate(self.names):
            centroids_CD = self._centroids[name]
            if queries_TD.shape[1] != centroids_CD.shape[1]:
                raise ShapeError(
                    f"the queries have width {queries_TD.shape[1]}, pool {name!r} has "
                    f"{centroids_CD.shape[1]}"
                )
            if len(queries_TD) == 0:
                continue
            num_candidates = min(_CANDIDATES, len(centroids_CD))
            _, ids_TK = self._searchers[name].search(queries_TD, num_candidates)
            gaps_TKD = queries_TD[:, None].astype(np.float64) - centroids_CD[ids_TK]
            distances_TP[:, column] = np.square(gaps_TKD).sum(-1).min(-1)
        return distances_TP

    def save(self, folder: Path, tag: str) -> None:
        """Write the index, durably, tagged with the snapshot it belongs to (`index_tag`)."""
        blobs = [faiss.serialize_index(self._indexes[name]).tobytes() for name in self.names]
        parts = [[name, len(blob)] for name, blob in zip(self.names, blobs, strict=True)]
        save_index(Path(folder), SIGNATURES, tag=tag, data=b"".join(blobs), details=parts)

    @classmethod
    def load(cls, folder: Path, tag: str) -> SignatureIndex | None:
        """Return the saved index, or None when it is missing, stale or damaged: rebuild it.

        Its hash stands beside it, so whoever changed one may have changed the other: FAISS is given
        what it wrote itself for flat vectors and nothing else, and `holds` tells whose they are.
        """
        found = load_index(Path(folder), SIGNATURES, tag)
        if found is None:
            return None
        data, parts = found
        indexes, at = {}, 0
        try:
            for name, num_bytes in parts:
                indexes[str(name)] = _parsed(data[at : at + num_bytes])
                at += num_bytes
        except (TypeError, ValueError, RuntimeError):
            return None
        centroids = {
            name: np.asarray(index.reconstruct_n(0, index.ntotal), dtype=np.float32)
            for name, index in indexes.items()
        }
        return cls(indexes, centroids)

    def holds(self, pools: Mapping[str, Floats]) -> bool:
        """Return whether these are its pools, with these very centroids."""
        return self.names == tuple(sorted(pools)) and all(
            np.array_equal(self._centroids[name], pools[name]) for name in self.names
        )


def kmeans(vectors: Floats, k: int, seed: int) -> Floats:
    """Return at most k centroids, float32 (C, D); the same bits for the same arguments.

    With k distinct vectors or fewer, these themselves are returned, sorted. One thread: the order
    of additions decides the last bits.
    """
    vectors_TD = _checked("the vectors", vectors)
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    distinct = _distinct(vectors_TD, k)
    if len(distinct) <= k:
        return distinct
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        trainer = faiss.Kmeans(
            vectors_TD.shape[1], k, niter=25, seed=seed, min_points_per_centroid=1, verbose=False
        )
        trainer.train(vectors_TD)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.array(trainer.centroids, dtype=np.float32).reshape(k, -1)


def _distinct(vectors_TD: Floats, most: int) -> Floats:
    """Return the distinct rows, sorted, or the first more than `most` of them."""
    found = vectors_TD[:0]
    for start in range(0, len(vectors_TD), _COMPARED):
        found = np.unique(np.concatenate([found, vectors_TD[start : start + _COMPARED]]), axis=0)
        if len(found) > most:
            break
    return found


def _parsed(blob: bytes) -> Any:
    """Return the flat index of some bytes.

    Raises: ValueError: when FAISS would not have written a flat index so.
    """
    if len(blob) < _HEADER.size:
        raise ValueError("too short for an index")
    _, width, num_vectors = _HEADER.unpack_from(blob)
    if min(width, num_vectors) < 1 or 4 * width * num_vectors > len(blob):
        raise ValueError("no number of vectors that fit in")
    zeros = faiss.IndexFlatL2(width)
    zeros.add(np.zeros((num_vectors, width), dtype=np.float32))
    expected = faiss.serialize_index(zeros).tobytes()
    num_head = len(expected) - 4 * width * num_vectors
    if len(blob) != len(expected) or blob[:num_head] != expected[:num_head]:
        raise ValueError("no flat index")
    return faiss.deserialize_index(np.frombuffer(blob, dtype=np.uint8))


def _checked(what: str, vectors: Floats, *, least: int = 1) -> Floats:
    """Return finite float32 rows, contiguous."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < least or rows.shape[1] < 1:
        raise ShapeError(f"{what} must be a matrix of at least {least} rows, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError(f"{what} hold values that are not finite")
    return rows


def _accelerated(index: Any) -> Any:
    """Return the index on a GPU when one is there and gives the right answer, else itself.

    faiss-gpu imports, and even makes its resources, on machines without a GPU: hence the count
    and the probe.
    """
    if getattr(faiss, "get_num_gpus", int)() < 1:
        return index
    probe = index.reconstruct(0)[None]
    try:
        moved = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
        distances, _ = moved.search(probe, 1)
    except (AttributeError, RuntimeError):
        return index
    expected, _ = index.search(probe, 1)
    return moved if np.allclose(distances, expected, rtol=1e-3, atol=1e-3) else index
