"""Compressed bytes, whose size is looked at before they are unpacked.

A store may be anybody's, and a few kilobytes of zstandard can unpack to more than a machine holds.
"""

from __future__ import annotations

import zstandard

from peer_cl.errors import DamageError


def frame_size(data: bytes, most: int, what: str) -> int:
    """Return how many bytes a zstandard frame unpacks to; all that a store writes say so.

    Args:
        data: the frame.
        most: the most bytes that it may unpack to.
        what: what it holds, for the message, without an article.

    Raises: DamageError: when it is no frame, does not say its size, or is larger than that.
    """
    try:
        size = zstandard.get_frame_parameters(data).content_size
    except zstandard.ZstdError as error:
        raise DamageError(f"the object holds no {what}: {error}") from None
    if size == zstandard.CONTENTSIZE_UNKNOWN:
        raise DamageError(f"a {what} does not say its size, as all that a store writes do")
    if size > most:
        raise DamageError(f"a {what} would unpack to {size:,} bytes; the most is {most:,}")
    return int(size)
