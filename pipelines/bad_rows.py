"""What is done at a row, or a file, that cannot be read."""

from __future__ import annotations

from typing import Literal, get_args

from peer_cl.errors import InputError

BadRowPolicy = Literal["stop", "skip"]


def check_policy(on_bad_row: str) -> None:
    """Refuse another word than those that are known: a corpus would be read in part, unasked.

    Raises: InputError: when it is none of them.
    """
    if on_bad_row not in get_args(BadRowPolicy):
        raise InputError(f'on_bad_row must be "stop" or "skip", not {on_bad_row!r}')
