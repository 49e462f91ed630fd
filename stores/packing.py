"""Ids with shares as one packed array: a row's documents, or a document's rows.

The bytes: zstandard over one byte with the width of an id (2 or 4), the ids as differences from
one to the next, little-endian, and the shares as float16. Shares add up to one; the sum that they
are shares of stands beside the array, so that no weight is too large for its type.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from peer_cl.errors import DamageError

Ids: TypeAlias = NDArray[np.int64]
Shares: TypeAlias = NDArray[np.float64]
_NARROW = 2**16


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
    try:
        raw = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise DamageError(f"a packed array of uses cannot be read: {error}") from None
    width = raw[0] if raw else 0
    num, rest = divmod(len(raw) - 1, width + 2)
    if width not in (2, 4) or rest:
        raise DamageError(f"a packed array of uses has {len(raw)} bytes of width {width}")
    gaps = np.frombuffer(raw, f"<u{width}", num, offset=1)
    shares = np.frombuffer(raw, "<f2", num, offset=1 + width * num)
    return gaps.cumsum(dtype=np.int64), shares.astype(np.float64)
