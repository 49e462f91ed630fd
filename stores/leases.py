"""One writer at a time: a lease row with a heartbeat, checked inside every writing transaction.

On the holder's own machine the lease is its process's: it goes when that is dead, and not before,
as a process that was stopped (Ctrl-Z) goes on some day. Elsewhere, and where the machine does not
tell when a process began (macOS), it goes when the heartbeat is further from now than TTL_SECONDS
(machines sharing a store need clocks that agree to a few seconds). The token in the row fences off
a holder that slept through its own expiry: in what it writes, and in what it removes, since a
leftover of before may be another writer's work by now.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Update, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from peer_cl.errors import ChangedError, PeerError, StateError, StoreLockedError
from stores.batches import batches
from stores.clock import utc_now
from stores.database import Database
from stores.objects import ObjectStore
from stores.processes import process_birth
from stores.schema import LeaseRow

TTL_SECONDS = 30.0
Acting = Callable[[], AbstractContextManager[Session]]
"""Begins a writing transaction; raises a StoreLockedError when the lease is another's by now."""
_BORN = " born "
"""In the row, between a host and when the holder's process began; no host's name has blanks."""
_BATCH = 50
"""Objects that are deleted a transaction: jobs write how far they are in between."""
_PAUSE_SECONDS = 0.01
_MOST_RELEASES = 360
"""How often a lease that could not be given back is tried again: for an hour."""
_held: set[str] = set()
"""Tokens of this process's leases: what has another one was not given back, and is nobody's."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds the lease, as the row says."""

    who: str
    host: str
    pid: int
    taken_at: str
    heartbeat: float
    born: str = ""
    """When its process began, as its machine tells it; empty where it does not, or of old."""
    token: str = ""
    """What its row says; of this very process, a lease without it in memory is left over."""

    @property
    def is_alive(self) -> bool:
        """Whether the holder must be respected."""
        is_own = self.host == this_host() and self.pid == os.getpid()
        if is_own and process_birth(self.pid) == self.born:
            return self.token in _held
        return goes_on(self.host, self.pid, self.born, self.heartbeat)

    @property
    def advice(self) -> str:
        """What who wants the lease can do."""
        if is_recent(self.heartbeat):
            return "try again later"
        silent = f"it has said nothing for {time.time() - self.heartbeat:.0f} s"
        return f"{silent}; if it was stopped, let it go on (`fg`) or end it (`kill {self.pid}`)"

    def __str__(self) -> str:
        return f"{self.who} (process {self.pid} on {self.host}, since {self.taken_at[:19]} UTC)"


def this_host() -> str:
    """Return a name for the space in which process ids of this machine hold.

    Two containers, or two copies of a virtual machine, may share a host's name and still not see
    each other's processes. After a restart it is another, whose leases go by their heartbeats.
    """
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{hashlib.sha256(f'{space} {boot}'.encode()).hexdigest()[:12]}"


def is_recent(heartbeat: float) -> bool:
    """Return whether a heartbeat tells of a process that is alive.

    One far ahead does not: its machine's clock was wrong, and it would hold until that hour comes.
    """
    return abs(time.time() - heartbeat) <= TTL_SECONDS


def goes_on(host: str, pid: int, born: str, heartbeat: float) -> bool:
    """Return whether a process must be believed to go on.

    Args:
        host: as `this_host` said there.
        pid: its number.
        born: when it began, as its machine told; empty where it does not.
        heartbeat: when it was heard of last: what counts where it cannot be looked at.
    """
    if host == this_host():
        birth = process_birth(pid)
        if birth is None:
            return False
        if birth and born:  # else it is another user's that cannot be looked at
            return birth == born
    return is_recent(heartbeat)


def read_holder(session: Session) -> Holder | None:
    """Return who holds the lease, dead or alive, or None."""
    row = session.get(LeaseRow, 1)
    if row is None or row.token is None:
        return None
    host, _, born = row.host.partition(_BORN)
    return Holder(row.who, host, row.pid, row.taken_at, row.heartbeat, born, row.token)


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
        _held.add(self._token)  # before anybody can read it
        try:
            with self._database.writing() as session:
                self._take(session)
        except BaseException:
            _held.discard(self._token)
            raise
        self._thread.start()

    def _take(self, session: Session) -> None:
        """Write into the row that the lease is ours, unless it is another's."""
        row = session.get(LeaseRow, 1, with_for_update=True)
        if row is None:
            raise StateError("the registry has no lease row; restore it from a copy")
        holder = read_holder(session)
        if holder is not None and holder.is_alive:
            raise StoreLockedError(f"the store is being written by {holder}; {holder.advice}")
        row.token, row.who, row.pid = self._token, self._who, os.getpid()
        row.host = _BORN.join((this_host(), process_birth(row.pid) or ""))
        row.taken_at, row.heartbeat = utc_now(), time.time()

    def check(self, session: Session) -> None:
        """Make sure, within a writing transaction, that the lease is still ours.

        Raises: StoreLockedError: when another writer took it over.
        """
        row = session.get(LeaseRow, 1, with_for_update=True)
        if row is None or row.token != self._token:
            holder = read_holder(session)
            raise StoreLockedError(
                f"the lease of {self._who} ran out and is now held by {holder or 'nobody'}; "
                "nothing more was written: run it again"
            )

    def release(self) -> None:
        """Give the lease back, unless another writer has it by now.

        Where the registry cannot be written just then (it is busy, a server starts anew), no error
        is raised after an act that was committed: it is logged, and tried again meanwhile. A writer
        of this process need not wait for that.
        """
        self._stopped.set()
        try:
            self._thread.join()  # a Ctrl-C in it must not leave the lease with this process
            self._give_back()
        except (SQLAlchemyError, PeerError) as error:
            _log.warning("the lease of %s is not given back yet: %s", self._who, error)
            threading.Thread(target=self._try_again, name="store-lease-back", daemon=True).start()
        finally:
            _held.discard(self._token)

    def _give_back(self) -> None:
        with self._database.writing() as session:
            session.execute(self._mine().values(token=None))

    def _try_again(self) -> None:
        """Give the lease back as soon as the registry can be written."""
        for _ in range(_MOST_RELEASES):
            time.sleep(self._interval)
            try:
                self._give_back()
            except (SQLAlchemyError, PeerError) as error:
                _log.info("the lease of %s is not given back yet: %s", self._who, error)
                continue
            return

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


def check_seen(live_id: int, seen_id: int) -> None:
    """Refuse what was decided on another snapshot than the live one.

    Raises: ChangedError: when it was.
    """
    if live_id != seen_id:
        raise ChangedError(
            f"the store changed meanwhile: snapshot {live_id} is live, not {seen_id}; look again, "
            "then act"
        )


class Writer:
    """The lease of one open registry: it is one thread's, which may take it again while it has it.

    Another thread is refused, though its process holds the lease: two trainings in one store would
    share its staging folder, and PyTorch's settings of the whole process.

    Args:
        take: returns the lease, held, for who is named.
    """

    def __init__(self, take: Callable[[str], Lease]) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._thread = threading.current_thread()
        self._who = ""
        self._depth = 0
        self._expected: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds the lease."""
        return self._lease is not None and self._thread is threading.current_thread()

    @contextmanager
    def writing(self, who: str, expect: int | None) -> Iterator[None]:
        """Hold the lease; see `Registry.writing`.

        Args:
            who: holds it.
            expect: the snapshot that is to be live at the first act.

        Raises:
            StoreLockedError: when another writer, or another thread, holds it.
            StateError: when a copy of this store wrote where its objects lie.
        """
        with self._lock:  # of two threads that come at once, one gets it
            if self._lease is None:
                self._lease = self._take(who)
                self._thread, self._who, self._depth = threading.current_thread(), who, 0
            self._check_thread()
            self._depth += 1
        if expect is not None:
            self._expected = expect
        try:
            yield
        finally:
            if expect is not None:
                self._expected = None
            self._depth = max(0, self._depth - 1)  # closed meanwhile: given back already
            if self._depth == 0:
                self.close()

    def check(self, session: Session) -> None:
        """Make sure, within a writing transaction, that the lease is the calling thread's.

        Raises: StateError, StoreLockedError: when it is not.
        """
        if self._lease is None:
            raise StateError("changing a store needs its lease: `with registry.writing(who): ...`")
        self._check_thread()
        self._lease.check(session)

    def check_expected(self, live_id: int) -> None:
        """Refuse an act that was decided on another snapshot than the live one.

        Raises: ChangedError: when it was.
        """
        expected, self._expected = self._expected, None  # our own acts move it on
        if expected is not None:
            check_seen(live_id, expected)

    def close(self) -> None:
        """Give the lease back, if it is held."""
        if self._lease is not None:
            lease, self._lease, self._depth = self._lease, None, 0
            lease.release()

    def _check_thread(self) -> None:
        """Refuse any thread but the one that took the lease."""
        if self._thread is not threading.current_thread():
            raise StoreLockedError(
                f"the store is being written by {self._who} in thread {self._thread.name!r} of "
                "this process, and one thread writes at a time; try again when it has ended"
            )


def remove_objects(objects: ObjectStore, object_ids: Iterable[str], acting: Acting) -> None:
    """Delete objects that no row names.

    The lease is ours to the end of each transaction, and only its holder adds rows: what was read
    since it was taken still holds.

    Args:
        objects: where they are.
        object_ids: which; those that are gone already are no error.
        acting: makes sure of the lease.

    Raises: StoreLockedError: when another writer took the lease over; what is left stays.
    """
    for some in batches(sorted(object_ids), _BATCH):
        with acting():
            for object_id in some:
                objects.delete(object_id)
        time.sleep(_PAUSE_SECONDS)  # SQLite serves those that wait for it in no order


def remove_files(paths: Iterable[Path], acting: Acting) -> None:
    """Remove files of a store's folder; those that are gone already are no error.

    Args:
        paths: which.
        acting: makes sure of the lease.

    Raises: StoreLockedError: when another writer took the lease over; they stay.
    """
    with acting():
        for path in paths:
            path.unlink(missing_ok=True)  # a reader or a job may have moved or removed its own
