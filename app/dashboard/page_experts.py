"""Experts."""

from __future__ import annotations

from app.dashboard.page import View, page


@page("Experts", "How a pool's experts are used, and what each of them holds.")
def show(seen: View) -> None:
    """Show the page."""
