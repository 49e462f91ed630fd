"""Processes of this machine: whether one that was noted down is still the same, and alive."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

_STATE, _START = 0, 19
"""Fields of /proc/PID/stat after the command's name: its state, and when it began."""
_DEAD = ("Z", "X", "x")


def user_name() -> str:
    """Return whose process this is: the user's name, or number where the system knows no name.

    A container may run as a user of which its system knows only the number.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return f"uid {os.getuid()}"


def process_birth(pid: int) -> str | None:
    """Return when a process of this machine began, or None when there is none.

    In the machine's own clock ticks where /proc tells them, else empty: there the process id alone
    says who it is. A process that has ended and was not yet waited for is none.
    """
    if not _is_known(pid):
        return None
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # No /proc, one that hides other users' processes, or it has ended since.
        return "" if _is_known(pid) else None
    fields = told.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[_STATE] in _DEAD else fields[_START]


def _is_known(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
