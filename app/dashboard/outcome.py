"""Acting from a page, and what is said about it: done with Undo, changed meanwhile, or why not.

A button's callback gets the view of the run that drew it, so that an act compares with what the
person saw, not with what is there when the click arrives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import acts
from app.dashboard.page import acting, plain, who
from peer_cl.errors import ChangedError, PeerError

if TYPE_CHECKING:
    from app.dashboard.acts import Done
    from app.dashboard.page import View
    from pipelines.store import Store

log = logging.getLogger("peer_cl.dashboard")

_KEY = "outcome"


@dataclass(frozen=True)
class Outcome:
    """How the last act of this browser tab ended."""

    folder: str
    """Of the store."""
    done: Done | None = None
    problem: str = ""
    has_changed: bool = False
    """Somebody else acted between the person's look and the act."""
    seen: View | None = None
    """What the person saw."""


def attempt(seen: View, act: Callable[[Store], Done], *cleared: str) -> None:
    """Do an act on what a person saw, and keep how it ended for `show_outcome`. A callback.

    Args:
        seen: what the person saw.
        act: the act; it reads widgets' values itself.
        cleared: keys of text fields to empty when it is done.
    """
    try:
        with acting(seen) as store:
            outcome = Outcome(seen.folder, done=act(store), seen=seen)
    except PeerError as error:
        if _is_done(seen):
            return
        has_changed = isinstance(error, ChangedError)
        outcome = Outcome(seen.folder, problem=str(error), has_changed=has_changed)
    except Exception as error:
        log.exception("acting")
        problem = f"{type(error).__name__}: {error}: a fault of peer-cl; see the server's terminal"
        outcome = Outcome(seen.folder, problem=problem)
    else:
        for key in cleared:
            st.session_state[key] = ""
    st.session_state[_KEY] = outcome
    # What stands at the page's top may be out of sight of who pressed a button further down.
    st.toast(plain(outcome.done.said if outcome.done else outcome.problem))


def _is_done(seen: View) -> bool:
    """Return whether an act was done on this very view: a second click is refused by the first."""
    last: Outcome | None = st.session_state.get(_KEY)
    return last is not None and last.done is not None and last.seen is seen


def ask_why(seen: View, key: str) -> None:
    """Let a person say why, and tell under which name the act is written down."""
    st.text_input("Why (kept in the history)", key=key, max_chars=500)
    st.caption(plain(f"Written down as done by {who() or seen.store.who}."))


def show_outcome(seen: View) -> None:
    """Show how the last act ended, until it is closed."""
    outcome: Outcome | None = st.session_state.get(_KEY)
    if outcome is None or outcome.folder != seen.folder:
        return
    if outcome.done is not None:
        _show_done(seen, outcome.done)
    elif outcome.has_changed:
        st.warning(
            f"Changed meanwhile; nothing was done. {plain(outcome.problem)}",
            icon=":material/sync_problem:",
        )
        st.button("Reload", on_click=_close, icon=":material/refresh:", key="reload")
    else:
        st.error(plain(outcome.problem), icon=":material/error:")
        st.button("Close", on_click=_close, key="close-problem")


def _show_done(seen: View, done: Done) -> None:
    st.success(plain(done.said), icon=":material/check_circle:")
    with st.container(horizontal=True):
        if done.can_undo and seen.live.id == done.after:
            st.button(
                "Undo",
                on_click=attempt,
                args=(seen, lambda store: acts.undo(store, done)),
                icon=":material/undo:",
                help=f"Restores snapshot {done.before}, as a new snapshot.",
                key="undo",
            )
        st.button("Close", on_click=_close, key="close-done")


def _close() -> None:
    st.session_state.pop(_KEY, None)
