"""Numbers that a caller gives, as Python's own: numpy's are taken over, others are refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from peer_cl.errors import InputError


def whole(what: str, value: Any) -> int:
    """Return a whole number as an int, so that JSON and TOML can hold it.

    Args:
        what: how messages call it.
        value: an int, or a whole number of another library.

    Raises:
        InputError: for anything else, 3.0 and True among it.

    Example:
        >>> import numpy
        >>> whole("top_k", numpy.int64(4))
        4
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise InputError(f"{what} must be a whole number, not {value!r:.80}") from None


def real(what: str, value: Any) -> float:
    """Return a number as a float.

    Args:
        what: how messages call it.
        value: a number, also of another library.

    Raises:
        InputError: for anything else.

    Example:
        >>> import numpy
        >>> real("output_scale", numpy.float32(4))
        4.0
    """
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise InputError(f"{what} must be a number, not {value!r:.80}")
    return float(value)


def ascending(layers: Sequence[Any]) -> tuple[int, ...]:
    """Return host layers as ints.

    Args:
        layers: at least one, from the lowest up, each once.

    Raises:
        InputError: when there is none, one is no whole number, or the order is another.

    Example:
        >>> ascending([1, 3])
        (1, 3)
    """
    found = tuple(whole("a host layer", layer) for layer in layers)
    if not found or list(found) != sorted(set(found)):
        raise InputError(
            f"host layers must be ascending, not {list(found)}: at least one, each once, from the "
            "lowest up"
        )
    return found
