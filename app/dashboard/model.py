"""The model of the live snapshot: loaded once for all who look, in the background.

One model is kept, the newest snapshot's. Where domains came or went it is changed in place. Its
hooks serve one call at a time, so whoever uses it holds it: `with borrowed(seen) as (model, ...)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.page import StorePlace, View, plain
from peer_cl.errors import ChangedError, StateError
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from peer_cl import PeerModel
    from stores import Snapshot

    Loaded = tuple[PeerModel, Any]
    """A model, and its base's tokenizer."""


KEPT_ERROR_S = 10.0
"""How long what went wrong is told to all who ask, before it is tried again."""


class ModelKeeper:
    """Keeps one loaded model, and a thread that loads or changes it."""

    def __init__(self) -> None:
        self._using = threading.RLock()
        """Held while the model is used, loaded or changed."""
        self._looking = threading.Lock()
        """Guards what follows; never held while `_using` is waited for."""
        self._kept: Loaded | None = None
        self._place: StorePlace | None = None
        self._snapshot: Snapshot | None = None
        self._error: tuple[StorePlace, int, Exception] | None = None
        self._failed_at = 0.0
        self._thread: threading.Thread | None = None
        self._began = 0.0

    @property
    def is_loading(self) -> bool:
        """Whether the thread is at work."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def seconds(self) -> float:
        """How long ago the loading began."""
        return time.monotonic() - self._began

    def loaded(self, seen: View) -> Loaded | None:
        """Return the model of what is seen, or None and have it loaded.

        Raises:
            ChangedError: when a newer snapshot's model is here already.
            PeerError: what went wrong while loading; who asks later has it tried again.
        """
        with self._looking:
            if self.is_loading:
                return None
            self._raise_error(seen)
            if self._is_of(seen):
                return self._kept
            self._began = time.monotonic()
            self._thread = threading.Thread(
                target=self._load, args=(seen,), name="peer-cl-model", daemon=True
            )
            self._thread.start()
            return None

    @contextmanager
    def borrowed(self, seen: View) -> Iterator[Loaded]:
        """Yield the model of what is seen, to nobody else at the same time.

        Raises:
            StateError: when it is not loaded: see `loaded`.
            ChangedError: when another snapshot's model took its place.
        """
        with self._using:
            with self._looking:
                kept = self._kept if self._is_of(seen) else None
            if kept is None:
                raise StateError("the model is not loaded yet; wait a moment and try again")
            yield kept

    def _raise_error(self, seen: View) -> None:
        """Raise what went wrong while this very snapshot was loaded; forget it when it is old."""
        if self._error is None:
            return
        place, snapshot_id, error = self._error
        is_old = time.monotonic() - self._failed_at > KEPT_ERROR_S
        if is_old or (place, snapshot_id) != (seen.place, seen.live.id):
            self._error = None
            return
        raise error

    def _is_of(self, seen: View) -> bool:
        """Return whether the kept model is that of what is seen."""
        if self._kept is None or self._snapshot is None or self._place != seen.place:
            return False
        if seen.live.id < self._snapshot.id:
            raise ChangedError(
                f"the store changed meanwhile: snapshot {self._snapshot.id} is loaded, not "
                f"{seen.live.id}; reload the page"
            )
        if seen.live.index_tag == self._snapshot.index_tag:
            self._snapshot = seen.live  # frozen, say: nothing that the model knows of
            return True
        return False

    def _load(self, seen: View) -> None:
        """Load or change the model; the thread's work."""
        try:
            get_ready()
            with self._using:
                kept = self._changed(seen) or self._loaded_anew(seen)
                with self._looking:
                    self._kept, self._place, self._snapshot = kept, seen.place, seen.live
        except Exception as error:
            with self._looking:
                self._kept = self._place = self._snapshot = None
                self._error = (seen.place, seen.live.id, error)
                self._failed_at = time.monotonic()

    def _changed(self, seen: View) -> Loaded | None:
        """Return the kept model, changed in place; None where it is another store's, or none."""
        if self._kept is None or self._snapshot is None or self._place != seen.place:
            return None
        from pipelines.loading import move

        move(self._kept[0], seen.store.registry, self._snapshot, seen.live)
        return self._kept

    def _loaded_anew(self, seen: View) -> Loaded:
        """Return a new model; the old one is dropped first, so that memory holds one."""
        with self._looking:
            self._kept = self._snapshot = None
        return seen.store.load(seen.live.id)


KEEPER = ModelKeeper()
"""One for all sessions of the server."""


def loaded(seen: View) -> Loaded | None:
    """Return the live snapshot's model and tokenizer, or None and have them loaded.

    Raises: PeerError: what went wrong while loading.
    """
    return KEEPER.loaded(seen)


@contextmanager
def borrowed(seen: View) -> Iterator[Loaded]:
    """Yield the loaded model and tokenizer, to nobody else at the same time.

    Raises: StateError: when they are not loaded, or the store changed.
    """
    with KEEPER.borrowed(seen) as kept:
        yield kept


def wait_for_model(seen: View) -> Loaded | None:
    """Return the model and tokenizer; while they load, say so, and run the page again after.

    Raises: PeerError: what went wrong while loading.
    """
    kept = KEEPER.loaded(seen)
    if kept is None:
        _waiting(seen.store.registry.config.base_id)
    return kept


@st.fragment(run_every=1.0)
def _waiting(base_id: str) -> None:
    """Say how long the loading takes already; what runs every second is this note alone."""
    if not KEEPER.is_loading:
        st.rerun()
    st.status(
        f"Loading {plain(base_id)} with its pools, once for everybody: {KEEPER.seconds:.0f} s",
        state="running",
    )
