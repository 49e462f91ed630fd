"""Processes of this machine: whether one that was noted down is still the same, and alive."""

from __future__ import annotations

from pathlib import Path

from stores.leases import process_exists

_STATE, _START = 0, 19
"""Fields of /proc/PID/stat after the command's name: its state, and when it began."""
_DEAD = ("Z", "X", "x")


def process_birth(pid: int) -> str | None:
    """Return when a process of this machine began, or None when there is none.

    In the machine's own clock ticks where /proc tells them, else empty: there the process id alone
    says who it is. A process that has ended and was not yet waited for is none.
    """
    if not process_exists(pid):
        return None
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "" if not Path("/proc/self/stat").exists() else None
    except (ProcessLookupError, PermissionError):
        return None
    fields = told.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[_STATE] in _DEAD else fields[_START]
