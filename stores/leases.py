"""One writer at a time: a lease row with a heartbeat, checked inside every writing transaction.

A holder whose process is dead on this machine loses the lease at once; any other, alive or on
another machine, when its heartbeat is older than TTL_SECONDS (machines sharing a store need clocks
that agree to a few seconds). The token in the row fences off a holder that slept through its own
expiry.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass

from sqlalchemy import Update, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from peer_cl.errors import PeerError, StateError, StoreLockedError
from stores.clock import utc_now
from stores.database import Database
from stores.processes import process_exists
from stores.schema import LeaseRow

TTL_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds the lease, as the row says."""

    who: str
    host: str
    pid: int
    taken_at: str
    heartbeat: float

    @property
    def is_alive(self) -> bool:
        """Whether the holder must be respected."""
        if self.host == this_host() and not process_exists(self.pid):
            return False
        return time.time() - self.heartbeat <= TTL_SECONDS

    def __str__(self) -> str:
        return f"{self.who} (process {self.pid} on {self.host}, since {self.taken_at[:19]} UTC)"


def this_host() -> str:
    """Return a name for the space in which process ids of this machine hold.

    Two containers may share a host's name and still not see each other's processes.
    """
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")  # noqa: PTH115
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{space}"


def read_holder(session: Session) -> Holder | None:
    """Return who holds the lease, dead or alive, or None."""
    row = session.get(LeaseRow, 1)
    if row is None or row.token is None:
        return None
    return Holder(row.who, row.host, row.pid, row.taken_at, row.heartbeat)


class Lease:
    """The right to change a store, from `acquire` to `release`.

    Args:
        database: The registry.
        who: Shown to others that want to write.
        interval: Seconds between heartbeats.
    """

    def __init__(self, database: Database, who: str, *, interval: float = TTL_SECONDS / 3) -> None:
        self._database = database
        self._who = who
        self._interval = interval
        self._token = uuid.uuid4().hex
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="store-lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease.

        Raises: StoreLockedError: when another writer is alive; the message names it.
        """
        with self._database.writing() as session:
            row = session.get(LeaseRow, 1, with_for_update=True)
            if row is None:
                raise StateError("the registry has no lease row; restore it from a copy")
            holder = read_holder(session)
            if holder is not None and holder.is_alive:
                raise StoreLockedError(f"the store is being written by {holder}; try again later")
            row.token, row.who = self._token, self._who
            row.host, row.pid = this_host(), os.getpid()
            row.taken_at, row.heartbeat = utc_now(), time.time()
        self._thread.start()

    def check(self, session: Session) -> None:
        """Make sure, within a writing transaction, that the lease is still ours.

        Raises: StoreLockedError: when another writer took it over.
        """
        row = session.get(LeaseRow, 1, with_for_update=True)
        if row is None or row.token != self._token:
            holder = read_holder(session)
            raise StoreLockedError(
                f"the lease of {self._who} ran out and is now held by {holder or 'nobody'}; "
                "nothing was written: run it again"
            )

    def release(self) -> None:
        """Give the lease back, unless another writer has it by now."""
        self._stopped.set()
        self._thread.join()
        with self._database.writing() as session:
            session.execute(self._mine().values(token=None))

    def _mine(self) -> Update:
        """Return an update that touches the row only while it is ours."""
        return update(LeaseRow).where(LeaseRow.id == 1, LeaseRow.token == self._token)

    def _beat(self) -> None:
        """Renew the heartbeat until the lease is released or lost."""
        while not self._stopped.wait(self._interval):
            try:
                with self._database.writing() as session:
                    found = session.execute(self._mine().values(heartbeat=time.time()))
                    is_lost = getattr(found, "rowcount", 1) == 0
            except (SQLAlchemyError, PeerError) as error:
                _log.warning("the lease's heartbeat failed once: %s", error)
                continue
            if is_lost:
                return
