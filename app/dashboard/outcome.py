"""Acting from a page, and what is said about it: done with Undo, changed meanwhile, or why not.

What was done is told at the top of the page; why something was not, where it was tried alone.

A button's callback gets the view of the run that drew it, so that an act compares with what the
person saw, not with what is there when the click arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import acts
from app.dashboard.page import acting, plain, who, why
from peer_cl.errors import ChangedError, PeerError

if TYPE_CHECKING:
    from app.dashboard.acts import Done
    from app.dashboard.page import View
    from pipelines.store import Store

_KEY = "outcome"


@dataclass(frozen=True)
class Outcome:
    """How the last act of this browser tab ended."""

    seen: View
    """What the person saw."""
    place: str
    """Where it was tried: a problem is told there alone, since no other place can answer it."""
    done: Done | None = None
    problem: str = ""
    has_changed: bool = False
    """Somebody else acted between the person's look and the act."""


def attempt(
    seen: View, place: str, act: Callable[[Store], Done], *cleared: str, by_job: bool = False
) -> None:
    """Do an act on what a person saw, and keep how it ended for `show_outcome`.

    A callback, or called before a page has drawn its text fields: it empties some.

    Args:
        seen: what the person saw.
        place: where a problem is to be told, of a `show_problem`.
        act: the act; it reads widgets' values itself.
        cleared: keys of text fields to empty when it is done.
        by_job: the act only has a job written down; see `page.acting`.
    """
    try:
        with acting(seen, by_job=by_job) as store:
            outcome = Outcome(seen, place, done=act(store))
    except PeerError as error:
        if _is_done(seen):
            return
        has_changed = isinstance(error, ChangedError)
        outcome = Outcome(seen, place, problem=str(error), has_changed=has_changed)
    except Exception as error:
        outcome = Outcome(seen, place, problem=why(error, "acting"))
    else:
        for key in cleared:
            st.session_state[key] = ""
    st.session_state[_KEY] = outcome
    # What stands at the page's top may be out of sight of who pressed a button further down, and
    # a problem of who went to another page before the act ended.
    st.toast(plain(outcome.done.said if outcome.done else outcome.problem))


def _is_done(seen: View) -> bool:
    """Return whether an act was done on this very view: a second click is refused by the first."""
    last: Outcome | None = st.session_state.get(_KEY)
    return last is not None and last.done is not None and last.seen is seen


def ask_why(seen: View, key: str) -> None:
    """Let a person say why, and tell under which name the act is written down."""
    st.text_input("Why (kept in the history)", key=key, max_chars=500)
    st.caption(plain(f"Written down as done by {who() or seen.store.who}."))


def show_outcome(seen: View, title: str) -> None:
    """Show what the last act did, with Undo, until it is closed.

    What was tried on a store that is gone is told here: the new one may lack the place.

    Args:
        seen: what the person sees.
        title: the page's: an Undo that was refused on it is told here, and on no other page.
    """
    undoing = f"{title}: undo"
    outcome: Outcome | None = st.session_state.get(_KEY)
    if outcome is None or outcome.seen.folder != seen.folder:
        return
    if outcome.seen.place != seen.place:
        if outcome.done is None:
            _show_problem(outcome)
        return
    if outcome.done is not None:
        _show_done(seen, outcome.done, undoing)
    show_problem(seen, undoing)


def show_problem(seen: View, place: str) -> None:
    """Show why the last act was not done, until it is closed, if it was tried at this place.

    Args:
        seen: what the person sees.
        place: as `attempt` was told.
    """
    outcome: Outcome | None = st.session_state.get(_KEY)
    if outcome is None or outcome.done is not None:
        return
    if (outcome.seen.place, outcome.place) == (seen.place, place):
        _show_problem(outcome)


def _show_problem(outcome: Outcome) -> None:
    if outcome.has_changed:
        st.warning(
            f"Changed meanwhile; nothing was done. {plain(outcome.problem)}",
            icon=":material/sync_problem:",
        )
        st.button("Reload", on_click=_close, icon=":material/refresh:", key="reload")
    else:
        st.error(plain(outcome.problem), icon=":material/error:")
        st.button("Close", on_click=_close, key="close-problem")


def _show_done(seen: View, done: Done, place: str) -> None:
    st.success(plain(done.said), icon=":material/check_circle:")
    with st.container(horizontal=True):
        if done.can_undo and seen.live.id == done.after:
            st.button(
                "Undo",
                on_click=attempt,
                args=(seen, place, lambda store: acts.undo(store, done)),
                icon=":material/undo:",
                help=f"Restores snapshot {done.before}, as a new snapshot.",
                key="undo",
            )
        st.button("Close", on_click=_close, key="close-done")


def _close() -> None:
    st.session_state.pop(_KEY, None)
