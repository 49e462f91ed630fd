"""History."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("History", "Everything that was done to the store; any of it can be taken back.")
def show(seen: View) -> None:
    """Show the page."""
