"""What every page shares: the store, the live snapshot, the model, and acting.

Texts of users, corpora and models go to `st.text`, `st.code` or tables, never to Markdown or HTML;
where a label is Markdown by nature, `plain` escapes it.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.charts import domain_colours
from app.options import DEFAULT_STORE, STORE_VARIABLE
from peer_cl.errors import ChangedError, PeerError
from pipelines.live import LiveModel
from pipelines.store import Store, open_store
from stores.config import StoreConfig
from stores.queries import DomainSummary, Evaluation, Queries, Snapshot

if TYPE_CHECKING:
    from peer_cl.model import PeerModel

log = logging.getLogger("peer_cl.dashboard")

_OUTCOME, _MESSAGE = "outcome", "message "
"""Session keys: how the last act ended, until it was shown; what a message's key begins with."""


@dataclass(frozen=True)
class Page:
    """A page of the dashboard."""

    path: str
    icon: str
    draw: Callable[[], None]

    @property
    def navigation(self) -> Any:
        """The page as Streamlit's navigation takes it; links alone lead to Document."""
        return st.Page(
            self.draw,
            title=self.path.title(),
            icon=self.icon,
            url_path=self.path,
            default=self.path == "ask",
            visibility="hidden" if self.path == "document" else "visible",
        )


PAGES: dict[str, Page] = {}
"""By the path in the address; `page` puts each here."""


@dataclass(frozen=True)
class View:
    """What a page sees: a store, and the snapshot that was live when the page began."""

    store: Store
    live: Snapshot
    domains: tuple[DomainSummary, ...]
    """Every domain, live or not, by name."""

    @property
    def queries(self) -> Queries:
        """What answers questions about the store."""
        return self.store.registry.queries

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self.store.registry.folder

    @property
    def colours(self) -> dict[str, str]:
        """A colour for the base and each domain; a new domain changes no other's."""
        came = sorted(self.domains, key=lambda one: (one.created_at, one.domain))
        return domain_colours([one.domain for one in came])

    @property
    def key(self) -> tuple[str, int]:
        """What answers about this snapshot are cached under."""
        return self.store.registry.config.store_id, self.live.id


def store_folder() -> Path:
    """Return the store's folder: --store, the environment's PEER_CL_STORE, or the default."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--store", default=os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)
    return Path(parser.parse_known_args(sys.argv[1:])[0].store).resolve()


@st.cache_resource(show_spinner=False, max_entries=1, on_release=lambda store: store.close())
def _opened(folder: Path, store_id: str) -> Store:
    return open_store(folder)


def view() -> View:
    """Return what the page that runs now sees."""
    folder = store_folder()
    store = _opened(folder, StoreConfig.read(folder).store_id)
    return View(store, store.registry.queries.live(), store.registry.queries.domains())


def page(path: str, icon: str, caption: str) -> Callable[[Callable[[View], None]], Page]:
    """Return a decorator that makes a page, with a heading, of a function that draws a View."""

    def decorate(draw: Callable[[View], None]) -> Page:
        @functools.wraps(draw)
        def show() -> None:
            st.title(path.title(), anchor=False)
            st.caption(caption)
            try:
                seen = view()
                name = f"{seen.folder.parent.name}/{seen.folder.name}"
                st.sidebar.caption(plain(f"Store {name}, snapshot {seen.live.id}"))
                _show_outcome()
                draw(seen)
            except PeerError as error:
                show_error(str(error))
            except Exception as error:
                log.exception("page %s", path)
                show_error(f"{type(error).__name__}: {error} (the dashboard's terminal says where)")

        PAGES[path] = Page(path, f":material/{icon}:", show)
        return PAGES[path]

    return decorate


def plain(text: str) -> str:
    """Return text so that a Markdown label shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>~$:&])", r"\\\1", " ".join(text.split()))


def show_error(message: str) -> None:
    """Show one line on what went wrong."""
    st.error(plain(message), icon=":material/error:")


def link(path: str, label: str, **query: str) -> None:
    """Show a link to another page, and what it shall show, such as domain="law"."""
    navigation = PAGES[path].navigation
    st.page_link(navigation, label=plain(label), icon=PAGES[path].icon, query_params=query or None)


def show_figures(figures: Sequence[tuple[str, str, str | None, str | None]]) -> None:
    """Show figures side by side: each its name, value, unit, and what it means."""
    for column, (name, value, unit, told) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(
            name, value, unit, delta_color="off", delta_arrow="off", help=told, border=True
        )


def say_empty(seen: View) -> None:
    """Say what to do with a store in which no domain is live."""
    if seen.domains:
        st.info("No domain is live; removed ones can be restored.", icon=":material/inventory_2:")
        link("domains", "Go to Domains")
    else:
        st.info("This store has learned nothing yet.", icon=":material/school:")
        link("ingest", "Ingest a corpus")


def choose_domain(names: Sequence[str]) -> str:
    """Return the domain that a person, or the address, chooses from a list."""
    wanted = st.query_params.get("domain")
    if wanted is not None and wanted not in names and "domain" not in st.session_state:
        st.warning(plain(f"There is no domain {wanted!r} here; known: {', '.join(names)}."))
    chosen: str = st.selectbox("Domain", names, key="domain", bind="query-params")
    return chosen


# Acting


@dataclass(frozen=True)
class Outcome:
    """How an act ended: what was done, or why it was not."""

    done: str = ""
    error: str = ""


def attempt(
    folder: Path, expect_snapshot: int, done: str, function: Callable[[Store], Any]
) -> Outcome:
    """Run a verb on a store, if its live snapshot is still the one that a person saw.

    `done` is what to say afterwards; a text that the function returns replaces it.
    """
    try:
        with (
            open_store(folder) as store,
            store.registry.writing(store.author, expect_snapshot=expect_snapshot),
        ):
            said = function(store)
    except ChangedError:
        return Outcome(error="The store changed meanwhile, so nothing was done. Look again.")
    except PeerError as error:
        return Outcome(error=str(error))
    return Outcome(done=said if isinstance(said, str) else done)


def act(
    label: str, function: Callable[[Store], Any], seen: View, *, done: str, **look: Any
) -> None:
    """Show a button that runs a verb, says so in a toast, and shows the page anew.

    The snapshot is compared with the one of the run that drew the button: it is what the person
    saw. The function reads widgets from `st.session_state` itself, since they may change later.
    """

    def press() -> None:
        outcome = attempt(seen.folder, seen.live.id, done, function)
        st.session_state[_OUTCOME] = outcome
        for key in [key for key in st.session_state if str(key).startswith(_MESSAGE)]:
            st.session_state[key] = st.session_state[key] if outcome.error else ""

    st.button(plain(label), on_click=press, **look)


def _show_outcome() -> None:
    outcome: Outcome = st.session_state.pop(_OUTCOME, Outcome())
    if outcome.error:
        show_error(outcome.error)
    elif outcome.done:
        st.toast(plain(outcome.done), icon=":material/check_circle:")


def message_box(subject: str) -> Callable[[], str]:
    """Show a field for an act's message, which the act empties, and return what reads it."""
    key = f"{_MESSAGE}{subject}"
    st.text_input("Message (kept in the log)", key=key, max_chars=500)
    return lambda: str(st.session_state.get(key, ""))


# The model


@st.cache_resource(show_spinner=False, max_entries=1)
def _live_model(store_id: str) -> LiveModel:
    return LiveModel()


@contextmanager
def borrowed_model(seen: View) -> Iterator[tuple[PeerModel, Any]]:
    """Yield the model of the snapshot that is seen, and its tokenizer, to one session at a time."""
    model = _live_model(seen.store.registry.config.store_id)
    waiting = "Loading the model, once for everybody"
    with ExitStack() as stack:
        with nullcontext() if model.is_loaded else st.spinner(waiting):
            loaded = stack.enter_context(model.borrowed(seen.store, seen.live))
        yield loaded


# Evaluations


def evaluations(seen: View) -> list[Evaluation]:
    """Return the evaluations, the newest first, before them those that hold for what is live."""
    found = reversed(seen.queries.evaluations(seen.live.id))
    return sorted(found, key=lambda one: not is_current(seen, one))


def is_current(seen: View, evaluation: Evaluation) -> bool:
    """Return whether an evaluation holds for the live snapshot: the same versions are on."""
    return evaluation.snapshot.index_tag == seen.live.index_tag
