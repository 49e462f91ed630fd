"""Ingest."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Ingest", "Teach the store a corpus, and watch it learn.")
def show(seen: View) -> None:
    """Show the page."""
