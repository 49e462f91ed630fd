"""How the verbs tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Told (what runs, done, in all, a note such as the loss)."""


def no_progress(what: str, done: int, total: int, note: str) -> None:
    """Tell nobody."""
