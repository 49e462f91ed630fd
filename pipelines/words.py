"""Numbers in words, for whoever prints."""

from __future__ import annotations


def several(num: int, what: str) -> str:
    """Return a number with what it counts.

    Example:
        >>> several(1, "document"), several(2000, "text")
        ('1 document', '2,000 texts')
    """
    return f"{num:,} {what}{'s' * (num != 1)}"
