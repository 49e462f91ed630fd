"""Retention."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Retention", "What each domain learned, and what it kept while others came.")
def show(seen: View) -> None:
    """Show the page."""
