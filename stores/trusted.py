"""Which PostgreSQL databases may be connected to: those that this user has named.

A store's store.toml names its database, and whoever made the store wrote it. A server may ask for a
password in clear, and the driver then sends it the one in PGPASSWORD or PGPASSFILE. So a received
store is opened only where the user's own `init` has written its database down, in a list in the
user's configuration folder, or where the environment names its host. Nobody's own machine is an
exception: another user may listen on a port of it, or in a folder.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import platformdirs
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from peer_cl.errors import InputError, StateError

TRUST_VARIABLE = "PEER_CL_TRUST_DATABASE"
"""Hosts, with commas between them, of databases that stores may have."""
LOCAL = "local"
"""The host's name in the variable where a URL names none: the driver then goes to its own."""
_HARMLESS = (
    "host",
    "port",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "gssencmode",
    "connect_timeout",
    "application_name",
    "target_session_attrs",
    "keepalives",
)
"""Options in a URL beside which its host says where a connection goes ("hostaddr" is none)."""


def trusted_list() -> Path:
    """Return the list of databases that this user has made stores in, one URL a line."""
    return Path(platformdirs.user_config_dir("peer-cl")) / "databases.txt"


def trust_database(url: str) -> None:
    """Write a database down as one that this user's stores may have.

    Args:
        url: as `init` was told it; a password in it is left out.

    Raises:
        InputError: when the URL cannot be read.
        StateError: when the list cannot be written, and the environment does not name the host.
    """
    parsed = _parsed(url)
    path, line = trusted_list(), _line(parsed)
    try:
        if line in _lines(path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        if not _is_in_environment(parsed):
            raise StateError(
                f"cannot write the database down in {path}: {error.strerror}; make it writable, or "
                f"set {TRUST_VARIABLE}={_shown(parsed)}, now and whenever the store is "
                "opened"
            ) from None


def check_trusted(url: str, where: Path) -> None:
    """Refuse a database that this user has not named, before anything is sent there.

    Args:
        url: as it stands in store.toml.
        where: the store.toml, for the message.

    Raises:
        InputError: when the URL cannot be read.
        StateError: naming the host, and both ways to name it.
    """
    parsed = _parsed(url)
    if _is_in_environment(parsed):
        return
    path, line = trusted_list(), _line(parsed)
    try:
        if line in _lines(path):
            return
        told = ""
    except (OSError, UnicodeDecodeError) as error:
        told = f" (which cannot be read: {error})"
    hosts = _shown(parsed)
    others = sorted(set(parsed.query) - set(_HARMLESS))
    first = f"set {TRUST_VARIABLE}={hosts}, or " if not others else ""
    raise StateError(
        f"{where} has its registry in a database at {hosts}, which your user has not named, and "
        f"would send your password there. If you know it, {first}add the line {line} to "
        f"{path}{told}; if not, do not open this store"
    )


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("the database URL cannot be read; postgresql://user@host/name") from None


def _line(url: URL) -> str:
    """Return all that says where a connection goes, and as whom; never a password."""
    query = {key: url.query[key] for key in sorted(url.query) if key != "password"}
    bare = URL.create(
        url.drivername.partition("+")[0],
        username=url.username,
        host=url.host.lower() if url.host else url.host,
        port=url.port,
        database=url.database,
        query=query,
    )
    return bare.render_as_string(hide_password=False)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def _hosts(url: URL) -> list[str]:
    """Return every host that a connection may go to, without ports."""
    asked = url.query.get("host", ())
    named = [*([url.host] if url.host else []), *([asked] if isinstance(asked, str) else asked)]
    single = [host for some in named for host in some.split(",") if host]
    return [re.sub(r":\d*$", "", host).lower() for host in single] or [LOCAL]


def _shown(url: URL) -> str:
    """Return the hosts as they can be put behind the variable, whatever their author wrote."""
    return shlex.quote(",".join(_hosts(url)))


def _is_in_environment(url: URL) -> bool:
    """Return whether the environment names each host, and no option leads elsewhere."""
    said = os.environ.get(TRUST_VARIABLE, "").split(",")
    named = {host.strip().lower() for host in said} - {""}
    return named.issuperset(_hosts(url)) and set(url.query) <= set(_HARMLESS)
