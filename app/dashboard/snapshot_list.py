"""A list of snapshots to choose from, each with what happened and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.frames.history import snapshot_labels

if TYPE_CHECKING:
    from app.dashboard.page import View


def choose_snapshot(
    seen: View, label: str, parameter: str, ids: Sequence[int], *, index: int = 0
) -> int:
    """Return the snapshot that a person, or the address, chooses from a list.

    The address has the number alone: bound to the list, it would have all that the list says.

    Args:
        seen: what the page sees.
        label: of the list.
        parameter: of the address, and the key of the list.
        ids: the snapshots that are offered; at least one.
        index: the place of the one that stands there at first.
    """
    names, first = [str(number) for number in ids], str(ids[index])
    wanted = st.session_state.get(parameter, st.query_params.get(parameter))
    st.session_state[parameter] = wanted if wanted in names else first
    told = snapshot_labels(
        cached.snapshots(seen), cached.events(seen), seen.live.id, cached.masks(seen)
    )
    chosen: str = st.selectbox(
        label, names, key=parameter, format_func=lambda name: told.get(int(name), name)
    )
    if chosen == first:
        st.query_params.pop(parameter, None)
    else:
        st.query_params[parameter] = chosen
    return int(chosen)
