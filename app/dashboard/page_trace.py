"""Trace."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Trace", "Which experts answer a text, and which documents taught them.")
def show(seen: View) -> None:
    """Show the page."""
