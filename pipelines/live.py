"""A model that many share and that follows the live snapshot: of the dashboard, and of `serve`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.store import Store
from stores.queries import Snapshot

if TYPE_CHECKING:
    from peer_cl.model import PeerModel


class LiveModel:
    """A store's model, loaded when it is first borrowed, and the snapshot that it is of."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._loaded: tuple[PeerModel, Any] | None = None
        self._tag = ""

    @property
    def is_loaded(self) -> bool:
        """Whether borrowing takes no time."""
        return self._loaded is not None

    @contextmanager
    def borrowed(self, store: Store, snapshot: Snapshot) -> Iterator[tuple[PeerModel, Any]]:
        """Yield the model of a snapshot, and its tokenizer, to one borrower at a time."""
        from pipelines.loading import set_snapshot  # loads torch

        with self._lock:
            loaded, self._loaded = self._loaded, None  # dropped where the move fails halfway
            if loaded is None:
                loaded = store.load(snapshot.id)
            elif self._tag != snapshot.index_tag:
                set_snapshot(loaded[0], store.registry, snapshot)
            self._loaded, self._tag = loaded, snapshot.index_tag
            yield loaded
