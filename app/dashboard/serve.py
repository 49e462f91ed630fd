"""Runs Streamlit's own command with our pages imported before: the first visit need not wait.

Streamlit imports a script when the first browser comes; what the pages need (pandas, altair, the
registry) took a second and a half of that visit.
"""

from __future__ import annotations

import importlib

from streamlit.web import cli


def main() -> None:
    """Import the pages, then do what `streamlit` does with the same words."""
    importlib.import_module("app.dashboard.main")
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
