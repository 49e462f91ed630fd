"""The live snapshot's model, for the pages that need one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.page import View
from app.heavy import get_ready

if TYPE_CHECKING:
    from peer_cl import PeerModel
    from pipelines.store import Store


@st.cache_resource(show_spinner=False, max_entries=1)
def _loaded(folder: str, snapshot_id: int, _store: Store) -> tuple[PeerModel, Any]:
    get_ready()
    return _store.load(snapshot_id)


def loaded(seen: View) -> tuple[PeerModel, Any] | None:
    """Return the live snapshot's model and the base's tokenizer; None while they still load."""
    return _loaded(*seen.key, seen.store)
