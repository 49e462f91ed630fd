"""The verb that serves: dashboard."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from app.request import Request, read_path, verb
from peer_cl.errors import InputError

SECRETS = Path(".streamlit/secrets.toml")


@verb()
def dashboard(
    request: Request,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="To listen at.")] = 8501,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="To listen at. Where others can reach it, a login is needed.",
        ),
    ] = "127.0.0.1",
    secrets: Annotated[
        Path | None,
        typer.Option(
            "--secrets",
            parser=read_path,
            metavar="FILE",
            help="TOML with an [auth] section for st.login (OpenID Connect) and, above it, "
            "allowed, a list of e-mail addresses or @domains. Every page then asks for a login. "
            f"Default: {SECRETS}, for an address that others can reach.",
            show_default=False,
        ),
    ] = None,
    corpora: Annotated[
        list[Path] | None,
        typer.Option(
            "--corpora",
            parser=read_path,
            metavar="FOLDER",
            help="A folder below which the page Ingest may read corpora; may be given again. "
            "Default: any, and with a login none: files can be uploaded.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser window.")
    ] = False,
) -> None:
    """Open the dashboard in a browser."""
    from app.dashboard.launch import (
        ALLOWED_VARIABLE,
        CORPORA_VARIABLE,
        LOGIN_VARIABLE,
        check_login,
        command,
        is_loopback,
    )

    is_needed = not is_loopback(address)
    if is_needed and secrets is None:
        secrets = SECRETS
    environment = {**os.environ}
    if secrets is not None:
        environment[ALLOWED_VARIABLE] = " ".join(check_login(secrets, is_needed=is_needed))
        environment[LOGIN_VARIABLE] = "1"
    if corpora:
        environment[CORPORA_VARIABLE] = json.dumps([_folder(named) for named in corpora])
    with request.store():
        pass  # what is wrong with the store is told here, not in the browser
    _check_address(address, port)
    words = command(
        request.folder, address=address, port=port, is_headless=no_browser, secrets=secrets
    )
    try:
        os.execve(words[0], words, environment)  # Ctrl-C and signals are the server's from now on
    except OSError as error:
        raise InputError(f"the server cannot be started: {error.strerror}") from error


def _check_address(address: str, port: int) -> None:
    """Refuse what the server could not listen at, before it is started."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            tried.bind(place)
    except UnicodeError:  # Python's own check of a host's labels
        raise InputError(f"{address!r} is no address") from None
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "is in use (another dashboard?); choose another with --port"
        raise InputError(f"port {port} of {address}: {reason}") from None


def _folder(named: Path) -> str:
    """Return the whole path of a folder that is there."""
    if not named.is_dir():
        raise InputError(f"no folder {named}; --corpora names one below which corpora lie")
    return str(named.resolve())
