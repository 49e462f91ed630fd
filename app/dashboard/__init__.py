"""The dashboard: Streamlit pages over a store, on this machine only."""

from __future__ import annotations

import sys
from pathlib import Path

# WCAG 2.2 AA asks for a contrast of 4.5:1 for text. Streamlit draws captions in 60 % of textColor
# and primary buttons with white text in both themes; a test computes each of these contrasts.
THEME = {
    "theme.light.primaryColor": "#2f5d8a",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f5f7",
    "theme.light.textColor": "#12171c",
    "theme.light.borderColor": "#d9dee3",
    "theme.dark.primaryColor": "#3b78af",
    "theme.dark.backgroundColor": "#14181d",
    "theme.dark.secondaryBackgroundColor": "#1e242b",
    "theme.dark.textColor": "#e6eaee",
    "theme.dark.borderColor": "#343c45",
    "theme.baseRadius": "small",
    "theme.showWidgetBorder": "true",
    "theme.showSidebarBorder": "true",
}
MAX_UPLOAD_MB = 64


def server_command(store: Path, *, port: int, opens_browser: bool = True) -> list[str]:
    """Return the command that serves a store's dashboard on 127.0.0.1.

    There is no login: a proxy that authenticates can stand in front of it (docs/guide.md).
    """
    options = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": str(not opens_browser).lower(),
        "server.showEmailPrompt": "false",  # it would wait for an answer before it serves
        "server.fileWatcherType": "none",
        "server.maxUploadSize": str(MAX_UPLOAD_MB),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "runner.magicEnabled": "false",
        **THEME,
    }
    main = Path(__file__).with_name("main.py")
    return [
        *(sys.executable, "-m", "streamlit", "run", str(main)),
        *(f"--{name}={value}" for name, value in options.items()),
        *("--", "--store", str(store.resolve())),
    ]
