"""Domains: all of them, one in detail, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.state import View, act, choose_domain, link, message_box, page, plain, say_empty
from app.look import describe_state
from app.output import size
from peer_cl.errors import InputError
from pipelines.store import Store
from pipelines.words import several
from stores.queries import DomainDetail, DomainSummary, Snapshot

MOST_DOCUMENTS = 10_000
SUMMARY = (
    "domain state label num_texts num_facts num_held_out num_tokens num_experts size_bytes "
    "changed_at"
)
_TABLE = "domains-table"


@page("domains", "stacks", "Each domain's versions and documents, and what can be done with it.")
def show(seen: View) -> None:
    """Show the page."""
    if not seen.domains:
        say_empty(seen)
        return
    names = [one.domain for one in seen.domains]
    tables.show(
        tables.rows(seen.domains, SUMMARY, state=describe_state),
        "All domains; select a row to see one in detail",
        key=_TABLE,
        selection_mode="single-row",
        on_select=partial(_take_row, names),
    )
    domain = choose_domain(names)
    detail = seen.queries.domain(domain)
    st.subheader(plain(domain), anchor=False, divider="gray")
    if seen.queries.pending([domain]):
        st.caption("Shared experts pending: a text was erased; the next ingest trains them anew.")
    _show_actions(seen, detail)
    versions, training, documents, events = st.tabs(["Versions", "Training", "Documents", "Events"])
    with versions:
        tables.show(tables.versions_table(detail), "Every version of the domain, the newest first")
    with training:
        _show_training(seen, detail)
    with documents:
        _show_documents(seen, detail.summary)
    with events:
        log = tables.rows(detail.events, "at author action label snapshot_id message")
        tables.show(log, "What was done to the domain")


def _take_row(names: list[str]) -> None:
    rows: Any = st.session_state[_TABLE]["selection"]["rows"]
    if rows:
        st.session_state["domain"] = names[rows[0]]


# What can be done

SWITCHES: dict[str, tuple[Callable[[Store, str, str], Snapshot], str, str]] = {
    "Freeze": (Store.freeze, "is frozen: it learns nothing more", ":material/ac_unit:"),
    "Unfreeze": (Store.unfreeze, "may learn again", ":material/sunny:"),
    "Disable": (Store.disable, "is disabled: it is inactive everywhere", ":material/toggle_off:"),
    "Enable": (Store.enable, "is enabled", ":material/toggle_on:"),
    "Remove": (Store.remove, "is removed; it can be restored", ":material/logout:"),
    "Restore": (Store.restore, "is restored", ":material/undo:"),
}
"""Verbs that need a domain and a message alone, what they did, and their icons."""


def switches(item: DomainSummary) -> list[str]:
    """Return which of SWITCHES a domain's state allows."""
    if not item.is_live:
        return [] if item.is_purged else ["Restore"]
    freeze = "Unfreeze" if item.is_frozen else "Freeze"
    return [freeze, "Disable" if item.is_enabled else "Enable", "Remove"]


def purge(store: Store, domain: str, typed: str, message: str, *, retired: bool) -> str:
    """Delete the bytes of a domain that is removed, or of the versions that are not live.

    Returns: what was deleted, in a sentence.

    Raises: InputError: when what was typed is not the domain's name.
    """
    if typed.strip() != domain:
        raise InputError(f"to delete it for good, type the domain's name, {domain}")
    found = store.purge(domain, message, retired=retired)
    return (
        f"{domain}: {several(found.num_segments, 'version')} and "
        f"{several(found.num_documents, 'document')} are deleted for good, "
        f"{size(found.size_bytes)} in all."
    )


def _show_actions(seen: View, detail: DomainDetail) -> None:
    item, domain = detail.summary, detail.summary.domain
    if item.is_purged:
        st.info("It was purged: its name and its events are all that is left.")
        return
    with st.container(border=True):
        message = message_box(domain)
        with st.container(horizontal=True, vertical_alignment="center"):
            for label in switches(item):
                _offer_switch(seen, label, domain, message)
            if item.is_live:
                link("ingest", "Ingest more", domain=domain)
        if detail.earlier:
            _offer_rollback(seen, detail, message)
        _offer_purge(seen, item, message)


def _offer_switch(seen: View, label: str, domain: str, message: Callable[[], str]) -> None:
    verb, said, icon = SWITCHES[label]
    done, key = f"{domain} {said}.", f"{label} {domain}"
    act(label, lambda store: verb(store, domain, message()), seen, done=done, icon=icon, key=key)


def _offer_rollback(seen: View, detail: DomainDetail, message: Callable[[], str]) -> None:
    domain = detail.summary.domain
    earlier = [segment.label for segment in reversed(detail.earlier)]
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    label = left.selectbox(
        "Earlier version", earlier, index=None, key=f"version {domain}", placeholder="choose one"
    )
    with right:
        act(
            f"Roll back to {label}" if label else "Roll back",
            lambda store: store.roll_back(domain, label, message()),
            seen,
            done=f"{domain} is back at {label}.",
            icon=":material/history:",
            key=f"roll back {domain}",
            disabled=label is None,
        )


def _offer_purge(seen: View, item: DomainSummary, message: Callable[[], str]) -> None:
    """Offer to delete bytes, where some are not live; nothing on the page suggests it."""
    domain, key = item.domain, f"purge {item.domain}"
    gone = seen.queries.purgeable(domain, retired=item.is_live)
    if not gone:
        return
    with st.expander("Delete what is not live for good", icon=":material/delete_forever:"):
        st.text(
            f"Deletes {', '.join(gone)} of {domain} with texts, titles, scores, and evaluations of "
            "the snapshots that hold them. This cannot be undone."
        )
        st.text_input("Type the domain's name", key=key, max_chars=64)
        act(
            "Delete for good",
            lambda store: purge(
                store, domain, st.session_state[key], message(), retired=item.is_live
            ),
            seen,
            done="",
            icon=":material/delete_forever:",
            key=f"do purge {domain}",
        )


# Training and documents


def _show_training(seen: View, detail: DomainDetail) -> None:
    runs = [tables.losses_table(one.losses, one.label) for one in detail.versions if one.losses]
    if not runs:
        st.info("No training losses are kept.", icon=":material/info:")
        return
    st.caption("Faint: what each step read; solid: smoothed; dashed: validation texts.")
    st.altair_chart(
        charts.training_chart(pd.concat(runs[-4:]), seen.colours[detail.summary.domain]),
        alt="Training and validation loss by step of the newest versions",
    )


def _show_documents(seen: View, item: DomainSummary) -> None:
    if not item.is_live:
        st.info("It is not live, so it has no documents now.", icon=":material/info:")
        return
    left, right = st.columns(2)
    kind = left.selectbox("Kind", ["text", "fact", "question"], index=None, placeholder="all")
    split = right.selectbox("Split", ["train", "validation", "test"], index=None, placeholder="all")
    found = seen.queries.documents(item.domain, split=split, kind=kind)
    shown = min(len(found), MOST_DOCUMENTS)
    st.caption(f"{several(len(found), 'document')}, {shown:,} shown; the table has a search.")
    columns = "title open kind split num_tokens base_nats nats source"
    table = tables.rows(found[:shown], columns, open=tables.document_address)
    tables.show(table, f"Documents of {item.domain}")
