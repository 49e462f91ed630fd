"""The part of the page Document that erases: how, what it would change, and the button."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import acts, cached
from app.dashboard.clicks import click, wanted
from app.dashboard.links import link
from app.dashboard.outcome import ask_why, attempt, show_problem
from app.dashboard.page import plain
from app.dashboard.previews import erasure
from peer_cl.errors import PeerError
from pipelines.erasure_targets import find_targets

if TYPE_CHECKING:
    from app.dashboard.page import View
    from pipelines.progress import Progress
    from pipelines.store import Store
    from stores import Job
    from stores.queries import DocumentPlace

MASKED = "Masked: switch its own rows off, at once"
EXACT = "Exact: train its domain without it, in a process of its own"
_ERASE = "document_erase"


@dataclass(frozen=True)
class Asked:
    """What a click on the button asked for."""

    seen: View
    """What the person saw."""
    place: str
    document_id: str
    domain: str
    masked: bool
    evaluate: bool = False

    @property
    def keys(self) -> tuple[str, str]:
        """Of the text fields: why, and what is typed to confirm it."""
        return _keys(self.document_id)


def erase_asked(seen: View) -> None:
    """Erase what was asked for since the page ran last. Call it before anything is drawn.

    Rows are switched off in the page's run, not in the button's callback: how far it is can be told
    there, and whoever goes elsewhere ends it; the store is then as it was, or the erasure is in it.
    What trains again takes as long as an ingest, and is a job.

    Args:
        seen: what is there now; the act compares with what the person saw.
    """
    asked: Asked | None = wanted(_ERASE)
    if asked is None or asked.seen.folder != seen.folder:
        return
    act = partial(acts.start_erasing, evaluate=asked.evaluate)
    if asked.masked:
        act = partial(acts.erase, progress=_shown_progress())
    attempt(asked.seen, asked.place, partial(_do, asked, act), *asked.keys, by_job=not asked.masked)
    st.rerun()


def _shown_progress() -> Progress:
    """Show a bar, and return what tells it how far an erasure is."""
    told = st.progress(0.0, text="Erasing: stay on this page until it is done")

    def progress(what: str, done: int, total: int, note: str) -> None:
        share = min(1.0, done / total) if total else 0.0
        told.progress(share, text=plain(", ".join(part for part in (what, note) if part)))

    return progress


def show_erasure(seen: View, found: tuple[DocumentPlace, ...]) -> None:
    """Show how a document is erased from a domain, what that would change, and the button.

    Args:
        seen: the page's.
        found: where the document is held; at least one place.
    """
    st.subheader("Erase it", anchor=False)
    document_id = found[0].document.document_id
    place = f"Document: {document_id}"
    domains = sorted({one.document.domain for one in found if one.is_live})
    if not domains:
        st.info(
            "No live version holds it, so nobody is answered by it. It stays in old snapshots "
            "until what is not live is purged: on the page Domains, under “Act”.",
            icon=":material/inventory_2:",
        )
        show_problem(seen, place)
        return
    at_work = _job_at_work(seen, document_id)
    if at_work is not None:
        st.info("A job erases it.", icon=":material/ink_eraser:")
        link("ingest", "Watch the job", job=at_work.id)
        return
    domain = domains[0]
    if len(domains) > 1:
        domain = st.selectbox("From which domain", domains, key="erase-from")
    try:
        find_targets(seen.store.registry, document_ids=[document_id], domain=domain)
    except PeerError as error:
        st.info(plain(f"It cannot be erased now: {error}."), icon=":material/lock:")
        show_problem(seen, place)
        return
    ways = _ways(found, domain)
    if not ways:
        st.info(
            "It was held out, so no row holds it, and this store keeps no texts to train its "
            "domain again with: only the whole domain can be taken out and purged.",
            icon=":material/lock:",
        )
        return
    how = st.radio("How", ways, key="erase-how")
    detail = cached.domain_detail(seen, domain)
    with st.container(border=True):
        st.markdown("**What will change**")
        for line in erasure(detail, found, masked=how == MASKED):
            st.text(line)
    evaluates = how == EXACT and st.checkbox(
        "Measure what was learned and kept afterwards", value=True, key="erase-measure"
    )
    why_key, typed_key = _keys(document_id)
    ask_why(seen, why_key)
    typed = st.text_input(
        f"Type {acts.shown_digits(document_id)}, the first digits of its id, and press Enter",
        key=typed_key,
        max_chars=64,
    )
    is_confirmed = acts.is_typed(document_id, typed)
    st.button(
        ":red[Erase it]" if is_confirmed else "Erase it",
        icon=":material/ink_eraser:",
        key="erase",
        disabled=not is_confirmed,
        help=None if is_confirmed else "Type the first digits of its id above first.",
        **click(_ERASE, Asked(seen, place, document_id, domain, how == MASKED, evaluates)),
    )
    show_problem(seen, place)


def _ways(found: tuple[DocumentPlace, ...], domain: str) -> list[str]:
    """Return how a document can be erased from a domain that holds it."""
    document = next(
        one.document for one in reversed(found) if one.is_live and one.document.domain == domain
    )
    has_rows, is_kept = document.split == "train", document.text_object is not None
    return [MASKED] * has_rows + [EXACT] * is_kept


def _job_at_work(seen: View, document_id: str) -> Job | None:
    """Return the job that erases a document, if one is to."""
    for job in seen.store.registry.jobs.listed(only_open=True):
        if job.kind == "erase" and document_id in job.request.get("documents", ()):
            return job
    return None


def _do(asked: Asked, act: Callable[..., acts.Done], store: Store) -> acts.Done:
    """Do what was asked for, with what the text fields held when the button was pressed."""
    why, typed = (str(st.session_state.get(key, "")) for key in asked.keys)
    return act(store, asked.domain, asked.document_id, typed, why)


def _keys(document_id: str) -> tuple[str, str]:
    """Return the keys of the text fields: what is typed for one document stands below no other."""
    return f"erase-why: {document_id}", f"erase-typed: {document_id}"
