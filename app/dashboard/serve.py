"""Runs Streamlit's own command with our pages imported before: the first visit need not wait.

Streamlit imports a script when the first browser comes; what the pages need (pandas, altair, the
registry) took a second and a half of that visit.
"""

from __future__ import annotations

import importlib
import logging

from streamlit.web import cli


def main() -> None:
    """Import the pages, then do what `streamlit` does with the same words."""
    # Streamlit warns of every cached function that is made before there is a server, as all are.
    logging.disable(logging.WARNING)
    importlib.import_module("app.dashboard.main")
    logging.disable(logging.NOTSET)
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
