"""The time as the store writes it: ISO 8601 in UTC, so that text order is time order."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Return the present moment as text.

    Example:
        >>> len(utc_now()), utc_now()[-6:]
        (32, '+00:00')
    """
    return datetime.now(UTC).isoformat(timespec="microseconds")
