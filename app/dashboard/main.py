"""What Streamlit runs: the pages, and the way between them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.dashboard import (
    page_ask,
    page_document,
    page_domains,
    page_experts,
    page_history,
    page_ingest,
    page_overview,
    page_retention,
    page_trace,
)

ORDER = (
    page_ask.show,
    page_overview.show,
    page_retention.show,
    page_domains.show,
    page_experts.show,
    page_trace.show,
    page_ingest.show,
    page_history.show,
    page_document.show,
)


def main() -> None:
    """Show the page that the address names."""
    icon = Path(__file__).with_name("icon.svg")  # a Material icon there comes from the internet
    st.set_page_config(page_title="peer_cl", page_icon=str(icon), layout="wide")
    st.navigation([page.navigation for page in ORDER]).run()


if __name__ == "__main__":
    main()
