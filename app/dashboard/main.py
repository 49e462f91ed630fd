"""What Streamlit runs: the pages, and the way between them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.dashboard import (
    page_document,
    page_domains,
    page_experts,
    page_history,
    page_ingest,
    page_overview,
    page_retention,
    page_trace,
)
from app.dashboard.links import destination

PAGES = (
    (page_overview.show, "Overview", "overview", "dashboard"),
    (page_retention.show, "Retention", "retention", "timeline"),
    (page_domains.show, "Domains", "domains", "stacks"),
    (page_experts.show, "Experts", "experts", "grid_on"),
    (page_trace.show, "Trace", "trace", "manage_search"),
    (page_ingest.show, "Ingest", "ingest", "upload_file"),
    (page_history.show, "History", "history", "history"),
    (page_document.show, "Document", "document", "article"),
)
HIDDEN = ("document",)
"""Paths of pages that links alone lead to: there is nothing on them without what a link names."""


# A file of ours: a Material icon in a browser's tab is fetched from a server of Google's.
ICON = Path(__file__).with_name("icon.svg")


def main() -> None:
    """Show the page that the address names."""
    st.set_page_config(page_title="peer_cl", page_icon=str(ICON), layout="wide")
    st.navigation([destination(path) for _, _, path, _ in PAGES]).run()


if __name__ == "__main__":
    main()
