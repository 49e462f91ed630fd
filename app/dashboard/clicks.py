"""What a click starts, once: Streamlit replays the click of a run that was ended meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import streamlit as st


class Click(TypedDict):
    """What a button is given."""

    on_click: Callable[..., None]
    args: tuple[Any, ...]


def click(name: str, what: Any = True) -> Click:
    """Return what makes a button have something started, once however often it is clicked.

    Args:
        name: what is started; `wanted` of this name is told.
        what: told there; never None.
    """
    return {"on_click": _want, "args": (name, st.session_state.get(_count(name), 0), what)}


def wanted(name: str) -> Any:
    """Return what was clicked for since this was asked last, or None."""
    return st.session_state.pop(f"{name}_wanted", None)


def _want(name: str, number: int, what: Any) -> None:
    if number == st.session_state.get(_count(name), 0):
        st.session_state[_count(name)] = number + 1
        st.session_state[f"{name}_wanted"] = what


def _count(name: str) -> str:
    """Return where it is kept how often something was clicked for, in a page that was drawn."""
    return f"{name}_clicks"
