"""The verb that serves: dashboard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.request import Request, verb
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
            metavar="FILE",
            help="TOML with an [auth] section for st.login (OpenID Connect): every page then asks "
            f"for a login. Default: {SECRETS}, for an address that others can reach.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser window.")
    ] = False,
) -> None:
    """Open the dashboard in a browser."""
    from app.dashboard.launch import LOGIN_VARIABLE, check_login, command, is_loopback

    if not is_loopback(address) and secrets is None:
        secrets = SECRETS
    environment = {**os.environ}
    if secrets is not None:
        check_login(secrets)
        environment[LOGIN_VARIABLE] = "1"
    with request.store():
        pass  # what is wrong with the store is told here, not in the browser
    words = command(
        request.folder, address=address, port=port, is_headless=no_browser, secrets=secrets
    )
    try:
        os.execve(words[0], words, environment)  # Ctrl-C and signals are the server's from now on
    except OSError as error:
        raise InputError(f"the server cannot be started: {error.strerror}") from error
