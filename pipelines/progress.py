"""How the verbs tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Told (what runs, done, in all, a note such as the loss)."""


def no_progress(what: str, done: int, total: int, note: str) -> None:
    """Tell nobody."""


class LossNote(str):
    """A note that says a step's loss in words, and has the number for who draws it.

    It has no unit: answers of facts weigh more in it, and it goes up and down with what is read.

    Example:
        >>> note = LossNote(2.82813)
        >>> str(note), note.nats
        ('weighted loss 2.828', 2.82813)
    """

    nats: float

    def __new__(cls, nats: float) -> LossNote:
        """Return the note of a loss."""
        note = super().__new__(cls, f"weighted loss {nats:.3f}")
        note.nats = nats
        return note
