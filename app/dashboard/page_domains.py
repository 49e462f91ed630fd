"""Domains."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Domains", "Each domain's corpus, versions and state, and what can be done with it.")
def show(seen: View) -> None:
    """Show the page."""
