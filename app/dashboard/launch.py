"""How the dashboard is started: Streamlit's own server, on loopback, with our looks."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peer_cl.errors import InputError
from pipelines.own_process import own_module

MAIN = Path(__file__).with_name("main.py")
LOGIN_VARIABLE = "PEER_CL_DASHBOARD_LOGIN"
"""Set in the server's environment where every page is to ask for a login."""
ALLOWED_VARIABLE = "PEER_CL_DASHBOARD_ALLOWED"
"""Who may enter after it, in the server's environment: e-mail addresses and @domains, by spaces."""
CORPORA_VARIABLE = "PEER_CL_DASHBOARD_CORPORA"
"""Below which folders people may have corpora read, separated as the system separates paths."""
MAX_UPLOAD_MB = 64
LOGIN_KEYS = (
    "redirect_uri",
    "cookie_secret",
    "client_id",
    "client_secret",
    "server_metadata_url",
)
"""What Streamlit's st.login needs of an OpenID Connect provider, in [auth] of a secrets file."""

# WCAG 2.2 AA asks for 4.5:1. Streamlit writes captions and pinned columns in six tenths of
# textColor, and primary buttons in white in either theme; a test computes each.
THEME: Mapping[str, str] = {
    "theme.light.primaryColor": "#2f5d8a",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f5f7",
    "theme.light.textColor": "#12171c",
    "theme.light.borderColor": "#d9dee3",
    "theme.light.redTextColor": "#a8231b",
    "theme.dark.primaryColor": "#3b78af",
    "theme.dark.backgroundColor": "#14181d",
    "theme.dark.secondaryBackgroundColor": "#1e242b",
    "theme.dark.textColor": "#e6eaee",
    "theme.dark.borderColor": "#343c45",
    "theme.dark.redTextColor": "#ff9b91",
    "theme.baseRadius": "small",
    "theme.showWidgetBorder": "true",
    "theme.showSidebarBorder": "true",
}


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")
        (True, True, True)
        >>> is_loopback("0.0.0.0"), is_loopback("example.org")
        (False, False)
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def may_enter(email: str, allowed: Sequence[str]) -> bool:
    """Return whether an address is in a list of e-mail addresses and @domains, whatever the case.

    Example:
        >>> allowed = ["ann@example.org", "@clinic.example"]
        >>> may_enter("Ann@example.org", allowed), may_enter("bob@clinic.example", allowed)
        (True, True)
        >>> may_enter("bob@example.org", allowed), may_enter("bob@a.clinic.example", allowed)
        (False, False)
    """
    name = email.casefold()
    _, at, domain = name.rpartition("@")
    return bool(at) and any(item.casefold() in (name, at + domain) for item in allowed)


def check_login(secrets: Path, *, is_needed: bool = True) -> tuple[str, ...]:
    """Make sure that a secrets file lets people log in, and return who of them may enter.

    Whoever has an account at the provider can log in, which may be anybody: so the file says who.

    Args:
        secrets: the file.
        is_needed: whether others can reach the address; else a login is asked for on purpose.

    Raises: InputError: naming what is missing.
    """
    why = ": an address that others can reach needs a login" if is_needed else ""
    otherwise = "keep to 127.0.0.1" if is_needed else "leave --secrets out: no login is needed here"
    try:
        found: dict[str, Any] = tomllib.loads(secrets.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"no file {secrets}{why}; write into it allowed, a list of e-mail addresses and "
            f"@domains, then [auth] with {', '.join(LOGIN_KEYS)}, or {otherwise}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{secrets} cannot be read: {error}") from None
    auth = found.get("auth")
    told = auth if isinstance(auth, dict) else {}
    missing = [key for key in LOGIN_KEYS if not told.get(key)]
    if missing:
        raise InputError(
            f"{secrets} lacks {', '.join(missing)} in [auth]{why}; add what is missing, or "
            f"{otherwise}"
        )
    return _read_allowed(secrets, found.get("allowed"))


def _read_allowed(secrets: Path, told: Any) -> tuple[str, ...]:
    """Return who may enter, as a secrets file says."""
    if not told or not isinstance(told, list):
        raise InputError(
            f'{secrets} does not say who may enter: write allowed = ["ann@example.org", '
            '"@example.org"] at its top, with e-mail addresses or whole @domains'
        )
    for item in told:
        if not isinstance(item, str) or "@" not in item or len(item.split()) != 1:
            raise InputError(
                f"allowed in {secrets} lists e-mail addresses and @domains, not {item!r}"
            )
    return tuple(told)


def command(
    folder: Path, *, address: str, port: int, is_headless: bool, secrets: Path | None
) -> list[str]:
    """Return the words that start the server.

    Args:
        folder: the store's.
        address: to listen at.
        port: to listen at.
        is_headless: open no browser.
        secrets: a file that lets people log in.
    """
    options = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": str(is_headless).lower(),
        "server.showEmailPrompt": "false",  # it would wait for an answer before it serves
        "server.fileWatcherType": "none",
        "server.maxUploadSize": str(MAX_UPLOAD_MB),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "runner.magicEnabled": "false",
        **THEME,
    }
    if secrets is not None:
        options["secrets.files"] = str(secrets)
    words = [f"--{name}={value}" for name, value in options.items()]
    server = [*own_module("app.dashboard.serve"), "run", str(MAIN)]
    return [*server, *words, "--", "--store", str(folder.resolve())]
