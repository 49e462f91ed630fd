"""Ids with shares as one packed array: a row's documents, or a document's rows.

The bytes: zstandard over one byte with the width of an id (2 or 4), the ids as differences from
one to the next, little-endian, and the shares as float16. Shares add up to one; the sum that they
are shares of stands beside the array, so that no weight is too large for its type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from peer_cl.errors import DamageError
from stores.frames import frame_size

Ids: TypeAlias = NDArray[np.int64]
Shares: TypeAlias = NDArray[np.float64]
_NARROW = 2**16
_GAPS: dict[int, np.dtype[Any]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
_MOST_BYTES = 2**26
"""Of one array: eleven million ids, where a row holds its corpus's documents."""
_MOST_BYTES_TOGETHER = 2**31
_SHARE: np.dtype[Any] = np.dtype("<f2")


def pack(ids: Ids, shares: Shares) -> bytes:
    """Return ascending ids and their shares as bytes.

    Args:
        ids: int, (X,), ascending, below 2**32.
        shares: float, (X,), adding up to one.

    Example:
        >>> ids, shares = unpack(pack(np.array([3, 70000]), np.array([0.25, 0.75])))
        >>> ids.tolist(), shares.tolist()
        ([3, 70000], [0.25, 0.75])
    """
    gaps = np.diff(ids, prepend=0)
    width = 2 if len(gaps) == 0 or int(gaps.max()) < _NARROW else 4
    data = bytes([width]) + gaps.astype(f"<u{width}").tobytes() + shares.astype("<f2").tobytes()
    return zstandard.ZstdCompressor(level=3).compress(data)


def unpack(data: bytes) -> tuple[Ids, Shares]:
    """Return what `pack` was given, the shares rounded to three digits.

    Raises: DamageError: when the bytes are no packed array.
    """
    ids, shares, _ = unpack_all([data])
    return ids, shares


def unpack_all(packed: Sequence[bytes]) -> tuple[Ids, Shares, Ids]:
    """Return the ids and shares of many packed arrays, one after the other, and their lengths.

    A search reads tens of thousands of them: what can be done once for all is.

    Raises: DamageError: when some bytes are no packed array, or would unpack to more than any is.

    Example:
        >>> one, two = pack(np.array([3, 5]), np.array([0.5, 0.5])), pack(np.array([2]), np.ones(1))
        >>> [found.tolist() for found in unpack_all([one, two])]
        [[3, 5, 2], [0.5, 0.5, 1.0], [2, 1]]
    """
    left = _MOST_BYTES_TOGETHER
    for data in packed:
        left -= frame_size(data, min(left, _MOST_BYTES), "packed array of uses")
    decompressor = zstandard.ZstdDecompressor()
    gaps: list[NDArray[Any]] = [np.empty(0, np.int64)]
    shares: list[NDArray[Any]] = [np.empty(0)]
    for data in packed:
        try:
            raw = decompressor.decompress(data)
        except zstandard.ZstdError as error:
            raise DamageError(f"a packed array of uses cannot be read: {error}") from None
        width = raw[0] if raw else 0
        num, rest = divmod(len(raw) - 1, width + 2)
        if width not in _GAPS or rest:
            raise DamageError(f"a packed array of uses has {len(raw)} bytes of width {width}")
        gaps.append(np.frombuffer(raw, _GAPS[width], num, offset=1))
        shares.append(np.frombuffer(raw, _SHARE, num, offset=1 + width * num))
    lengths = np.array([len(some) for some in gaps[1:]], dtype=np.int64)
    sums = np.concatenate(gaps, dtype=np.int64).cumsum()
    ends = lengths.cumsum()
    before = np.concatenate([np.zeros(1, np.int64), sums])[ends - lengths]
    return sums - np.repeat(before, lengths), np.concatenate(shares, dtype=np.float64), lengths
