"""The model of the live snapshot, loaded once and in the background."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from app.dashboard.page import View
    from pipelines.store import Store

_LOADER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")


def loaded(seen: View) -> tuple[Any, Any] | None:
    """Return the live snapshot's model and tokenizer; None while they are still loading."""
    loading = _loading(seen.key, seen.store)
    return loading.result() if loading.done() else None


@st.cache_resource(show_spinner=False, max_entries=1)
def _loading(key: tuple[str, int], _store: Store) -> Future[tuple[Any, Any]]:
    return _LOADER.submit(_store.load, key[1])
