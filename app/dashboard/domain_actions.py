"""The part of the page Domains that acts: a choice, what it would change, why, and the button."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import acts
from app.dashboard.domain_corpus import last_documents
from app.dashboard.outcome import ask_why, attempt, show_problem
from app.dashboard.page import plain
from app.dashboard.previews import Choice, choices, preview
from app.unfinished import unfinished
from peer_cl.errors import StateError

if TYPE_CHECKING:
    from app.dashboard.page import View
    from pipelines.store import Store
    from stores import DomainDetail

_PURGES = ("purge", "purge retired")


def show_actions(seen: View, detail: DomainDetail) -> None:
    """Show what can be done with a domain; a button of each act does it."""
    place = f"Domains: {detail.summary.domain}"
    _show_act(seen, detail, place)
    show_problem(seen, place)


def _show_act(seen: View, detail: DomainDetail, place: str) -> None:
    domain = detail.summary.domain
    found = choices(
        detail,
        purgeable=_is_purgeable(seen, domain),
        retired=_is_purgeable(seen, domain, retired=True),
    )
    if not found:
        st.info("Nothing can be done with this domain any more: it was purged.")
        return
    chosen: Choice = st.selectbox("What to do", found, format_func=lambda choice: choice.label)
    if detail.summary.is_live:
        st.caption("A live domain cannot be purged whole: take it out of the store first.")
    version = _choose_version(detail) if chosen.action == "roll back" else None
    with st.container(border=True):
        st.markdown("**What will change**")
        documents, num_erased, ended = last_documents(seen, detail), 0, ""
        if chosen.action == "purge":
            num_erased = seen.store.registry.erased.count(domain)
        if chosen.action in _PURGES:
            ended = unfinished(seen.store.registry, domain)
        for line in preview(
            chosen.action, detail, documents, version, num_erased=num_erased, unfinished=ended
        ):
            st.text(line)
    # What is typed is for one act on one domain: below another it would be written down wrongly.
    why_key, typed_key = (f"act-{what}: {chosen.action} {domain}" for what in ("why", "typed"))
    ask_why(seen, why_key)
    label, icon, is_confirmed = plain(chosen.button), None, True
    if chosen.action in _PURGES:
        typed = st.text_input(
            "Type the domain's name and press Enter; this cannot be undone",
            key=typed_key,
            max_chars=64,
        )
        is_confirmed = typed.strip() == domain
        # Streamlit has one colour of buttons, which elsewhere is that of what harms nobody.
        label, icon = f":red[{label}]" if is_confirmed else label, ":material/delete_forever:"
    act = partial(_do, chosen.action, domain, version, why_key, typed_key)
    st.button(
        label,
        icon=icon,
        disabled=not is_confirmed,
        help=None if is_confirmed else plain(f"Type {domain} above first."),
        on_click=attempt,
        args=(seen, place, act, why_key, typed_key),
        key="act",
    )


def _is_purgeable(seen: View, domain: str, *, retired: bool = False) -> bool:
    try:
        seen.store.registry.check_purgeable(domain, retired=retired)
    except StateError:
        return False
    return True


def _choose_version(detail: DomainDetail) -> str:
    """Let a person choose an earlier version of the live chain, the newest first."""
    earlier = {segment.label: segment.id for segment in reversed(detail.chain[:-1])}
    label = st.selectbox("To version", list(earlier), key="to-version")
    return earlier[label]


def _do(
    action: str, domain: str, version: str | None, why_key: str, typed_key: str, store: Store
) -> acts.Done:
    """Do what was chosen, with what the text fields hold when the button is pressed."""
    why = str(st.session_state.get(why_key, ""))
    if action in _PURGES:
        typed = str(st.session_state.get(typed_key, ""))
        done = acts.purge(store, domain, typed, why, retired=action == "purge retired")
        st.cache_data.clear()  # no title of it shall stay in memory
        return done
    if action == "bring back":
        return acts.bring_back(store, domain, why)
    if action in ("roll back", "take out"):
        return acts.roll_back(store, domain, version, why)
    return acts.switch(store, action, domain, why)
