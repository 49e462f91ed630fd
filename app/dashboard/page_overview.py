"""Overview."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Overview", "What the store knows now, what it cost, and whether anything is wrong.")
def show(seen: View) -> None:
    """Show the page."""
