"""Processes that run a module of this project, and no file of that name where the user stands."""

from __future__ import annotations

import sys
from pathlib import Path


def own_module(name: str) -> list[str]:
    """Return the words that run a module of this project in a process of its own.

    `python -m` looks in the current folder first, and people have an `app.py` or a `pipelines.py`
    of their own there: -P leaves that folder out, and reads PYTHONPATH and what is installed. In a
    checkout's own folder the modules may be found by that folder alone, so there it stays.

    Args:
        name: the module's, with dots.
    """
    here = Path(__file__)
    found = Path(here.parent.name, here.name)  # from the current folder, which may be gone
    is_checkout = found.exists() and found.samefile(here)
    return [sys.executable, *([] if is_checkout else ["-P"]), "-m", name]
