"""The frame of every page: the store pinned to a snapshot, who looks, and errors in one line.

Texts of users, corpora and models go to `st.text`, `st.code` or a table, never to Markdown or HTML;
where a label is Markdown by nature, `plain` takes its marks away.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard.colours import domain_colours
from app.dashboard.launch import ALLOWED_VARIABLE, CORPORA_VARIABLE, LOGIN_VARIABLE, may_enter
from app.request import DEFAULT_STORE, STORE_VARIABLE
from peer_cl.errors import ChangedError
from pipelines.store import Store, open_store
from pipelines.system_errors import mendable
from stores import StoreConfig, StoreLayout
from stores.leases import check_seen

if TYPE_CHECKING:
    from stores import Snapshot
    from stores.queries import DomainSummary

log = logging.getLogger("peer_cl.dashboard")


FileId = tuple[int, int] | None
"""Of the registry's file, its device and number; None where it is in PostgreSQL."""
StorePlace = tuple[str, str, FileId]
"""A store's folder, absolute, its id, and its registry's file: another store may have been made in
the folder since, or a backup of this one put back, whose next acts have the numbers of others."""


@dataclass(frozen=True)
class View:
    """What a page sees: a store, and the snapshot that was live when the page began."""

    folder: str
    """The store's, absolute."""
    store: Store
    """For reading. Acts open a store of their own, see `acting`."""
    live: Snapshot
    domains: tuple[DomainSummary, ...]
    """Every domain, live or not, by name."""
    place: StorePlace
    """What tells the store from every other, one made anew in its folder included."""

    @property
    def key(self) -> tuple[StorePlace, int]:
        """What answers about this snapshot are kept under."""
        return self.place, self.live.id

    @property
    def colours(self) -> dict[str, str]:
        """A colour a domain."""
        came = sorted(self.domains, key=lambda item: (item.created_at, item.domain))
        return domain_colours([item.domain for item in came])

    @property
    def is_all_out(self) -> bool:
        """Whether no domain is live, and one at least can be brought back."""
        return not self.live.domains and any(not item.is_purged for item in self.domains)

    def summary(self, domain: str) -> DomainSummary | None:
        """Return what is known of a domain, or None."""
        return next((item for item in self.domains if item.domain == domain), None)


def store_folder() -> Path:
    """Return the store's folder: as the launcher said, by the environment, or the default."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--store")
    said, _ = parser.parse_known_args(sys.argv[1:])
    return Path(said.store or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE).resolve()


# A server shows one store: the one that was here before another was made in its folder is closed.
@st.cache_resource(show_spinner=False, max_entries=1, on_release=lambda store: store.close())
def _opened(place: StorePlace) -> Store:
    return open_store(place[0])


def opened(folder: Path) -> Store:
    """Return the store that is in a folder now, opened once for all who look.

    Raises: StoreFormatError, DamageError: when there is none, or it cannot be read.
    """
    return _opened(_place(folder))


def _place(folder: Path) -> StorePlace:
    layout = StoreLayout(folder)
    store_id = StoreConfig.read(layout.config).store_id
    # A file that is open keeps its number, so none that was put in its place has the same.
    found = layout.database.stat() if layout.database.is_file() else None
    return str(folder), store_id, found and (found.st_dev, found.st_ino)


def view() -> View:
    """Return what the page that runs now sees."""
    folder = store_folder()
    place = _place(folder)
    store = _opened(place)
    live, domains = store.registry.live(), store.registry.domains()
    return View(str(folder), store, live, domains, place)


@contextmanager
def acting(seen: View, *, by_job: bool = False) -> Iterator[Store]:
    """Yield a store to act on, if the snapshot that the person sees is still the live one.

    Args:
        seen: what the person saw.
        by_job: a job is to act, which waits its turn: whoever writes now is in nobody's way.

    Raises:
        ChangedError: at the first act, when it is not (of a job at once); at once, too, when
            another store is there.
        StoreLockedError: when another writer holds the store.
    """
    with open_store(seen.folder, who=who()) as store:
        if _place(Path(seen.folder)) != seen.place:
            raise ChangedError(
                f"another store was made in {seen.folder} meanwhile, or a copy put back; look "
                "again, then act"
            )
        if by_job:
            check_seen(store.registry.live().id, seen.live.id)
            yield store
            return
        with store.registry.writing(store.who, expect=seen.live.id):
            yield store


def who() -> str | None:
    """Return who is logged in; None where nobody need be: the system's user is written then."""
    if not os.environ.get(LOGIN_VARIABLE):
        return None
    return str(st.user.get("email") or st.user.get("name") or st.user.get("sub"))


def offered_folders() -> tuple[Path, ...] | None:
    """Return below which folders of this machine people may have corpora read; None: anywhere.

    Who logs in comes from elsewhere, and gets only what was named when the server was started.
    """
    named = os.environ.get(CORPORA_VARIABLE)
    if named is None:
        return () if os.environ.get(LOGIN_VARIABLE) else None
    return tuple(Path(folder) for folder in json.loads(named))


def _may_enter() -> bool:
    """Return whether whoever looks may, and ask for a login or tell why not otherwise."""
    if not os.environ.get(LOGIN_VARIABLE):
        return True
    if not st.user.get("is_logged_in"):
        st.info("This dashboard is for people who are logged in.")
        st.button("Log in", on_click=st.login, type="primary")
        return False
    email = str(st.user.get("email") or "")
    # Some providers let people claim an address and say that they did not look.
    is_claimed = str(st.user.get("email_verified")).casefold() == "false"
    if not is_claimed and may_enter(email, os.environ.get(ALLOWED_VARIABLE, "").split()):
        return True
    told = f"{email or 'This account, which tells no e-mail address,'} may not enter: who runs the "
    told += "dashboard can write the address under allowed in its secrets file, and start it again."
    st.error(plain(told), icon=":material/block:")
    st.button("Log out", on_click=st.logout)
    return False


def why(error: Exception, doing: str) -> str:
    """Return a line about what went wrong; what is our own fault goes to the server's log.

    Called where it was caught.

    Args:
        error: what was raised.
        doing: told in the log.
    """
    said = mendable(error)
    if said is not None:
        return said
    log.exception(doing)
    fault = "a fault of peer-cl; the terminal that runs the dashboard shows where"
    return f"{type(error).__name__}: {error} ({fault})"


def plain(text: str) -> str:
    """Return text so that a Markdown label shows it as it is.

    Example:
        >>> plain("a_b [x](http://y)")
        'a\\\\_b \\\\[x\\\\]\\\\(http\\\\://y\\\\)'
    """
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])", r"\\\1", " ".join(text.split())).replace(
        r"\-", "-"
    )


def _say_which_store(seen: View) -> None:
    """Say beside every page which store it is of, and which snapshot."""
    path = Path(seen.folder)
    st.sidebar.caption(
        plain(f"Store {path.parent.name}/{path.name}, snapshot {seen.live.id}"),
        help=plain(str(path)),
    )


def page(title: str, caption: str) -> Callable[[Callable[[View], None]], Callable[[], None]]:
    """Return a decorator that makes a page of a function of a View.

    Nobody sees a page who must log in and did not, or may not enter. Errors become one line; what
    is our own fault goes to the server's log, with the traceback.

    Args:
        title: the page's heading.
        caption: what it is for, in a sentence.
    """

    def decorate(function: Callable[[View], None]) -> Callable[[], None]:
        @functools.wraps(function)
        def show() -> None:
            st.title(title, anchor=False)
            st.caption(caption)
            if not _may_enter():
                return
            try:
                seen = view()
                _say_which_store(seen)
                function(seen)
            except Exception as error:
                st.error(plain(why(error, f"page {title}")), icon=":material/error:")

        return show

    return decorate
