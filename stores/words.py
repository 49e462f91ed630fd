"""What a person says of an act: who does it, and why. It is kept for ever, so it must be kept."""

from __future__ import annotations

from typing import Any

from peer_cl.errors import InputError


def check_words(what: str, given: Any) -> str:
    r"""Return what was said, if every database can keep it.

    Looked at before an act begins: an ingest would else be lost after hours, at its last step.

    Args:
        what: the name of the argument, for the message.
        given: what was said.

    Raises:
        InputError: when it is no text, holds half a character (of a byte that is not UTF-8), or
            NUL, which PostgreSQL does not keep.

    Example:
        >>> check_words("why", "asked for by the clinic")
        'asked for by the clinic'
        >>> check_words("why", "a\0")
        Traceback (most recent call last):
        ...
        peer_cl.errors.InputError: why 'a\x00' holds a NUL character (character 2); leave it out
    """
    if not isinstance(given, str):
        raise InputError(f"{what} must be a str, not {type(given).__name__}; '' says nothing")
    check_utf8(what, given)
    if "\0" in given:
        at = given.index("\0") + 1
        raise InputError(
            f"{what} {given[:40]!a} holds a NUL character (character {at}); leave it out"
        )
    return given


def check_utf8(what: str, text: str) -> None:
    """Refuse half a character, as Python hands over a byte that it cannot read.

    Args:
        what: the name of the argument, for the message.
        text: what was given.

    Raises:
        InputError: naming the character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} {text[:40]!a} holds a byte that is not UTF-8 (character {error.start + 1}); "
            "write it in UTF-8"
        ) from None
