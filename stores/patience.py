"""Patience with a registry that is busy: what could not be written is tried again.

What a process has computed in hours must not be lost because another one writes for half a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from peer_cl.errors import BusyError

T = TypeVar("T")
MOST_TRIES = 180
"""A try waits for BUSY_SECONDS itself: about an hour in all."""
PAUSE_SECONDS = 1.0


def patiently(act: Callable[[], T], waiting: Callable[[str], object]) -> T:
    """Return what an act returns, tried again while another process keeps the registry busy.

    Args:
        act: one transaction, which is undone where it fails, and needs no lease or checks it.
        waiting: told at each try why it waits; an error that it raises ends the waiting.

    Raises:
        BusyError: when that lasts for an hour.

    Example:
        >>> patiently(lambda: 3, print)
        3
    """
    for _ in range(MOST_TRIES - 1):
        try:
            return act()
        except BusyError as error:
            waiting(str(error))
            time.sleep(PAUSE_SECONDS)
    return act()
