"""Whose a place of objects is: a mark in it says which registry wrote there last.

What no row names is deleted there. A copy of a store's folder, or an older backup of it, has the
same store.toml and so the same place, but not the rows that came since: it would delete what the
other has learned. So whoever takes the lease puts a new token first into the registry and then into
the mark, and a registry that knows no such token is not the one that wrote last. Objects in the
store's own folder are copied with it and need no mark; those behind a link in it are not.
"""

from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path

from peer_cl.errors import StateError
from stores.config import StoreConfig
from stores.database import Database
from stores.leases import Lease
from stores.objects import ObjectStore
from stores.queries import Finding
from stores.references import needed_objects
from stores.schema import LiveRow

_CHOOSE = (
    "go on in the one that wrote last, or, where that is gone for good, run "
    "`peer-cl doctor --take-over` here"
)


class Claim:
    """A registry's right to change what lies where its objects are.

    Args:
        database: The registry.
        objects: Its objects.
        config: What was fixed at `init`; where the objects lie in the folder, all is allowed.
        folder: The store's; the mark names it to people.
    """

    def __init__(
        self, database: Database, objects: ObjectStore, config: StoreConfig, folder: Path
    ) -> None:
        self._database = database
        self._objects = objects
        self._config = config
        self._folder = folder

    def lease(self, who: str) -> Lease:
        """Return the lease, held, once the place is known to be this registry's.

        Raises:
            StoreLockedError: when another writer holds it.
            StateError: as `renew`.
        """
        lease = Lease(self._database, who)
        lease.acquire()
        try:
            self.renew()
        except BaseException:
            lease.release()
            raise
        return lease

    def renew(self) -> None:
        """Make sure that this registry wrote last, and leave a mark that no copy of it knows.

        The registry knows the new token before the place does and keeps the one that is there:
        whenever it dies in between, it knows the mark that it finds.

        Raises: StateError: when a copy wrote since; or the place cannot be reached, or written to,
            or is not that of the objects.
        """
        self._check_place()
        if not self._is_elsewhere():
            return
        mark = self._read()
        rival = self._rival(mark)
        if rival is not None:
            raise StateError(f"{rival}; {_CHOOSE}")
        self._mark(self._new_token(mark.get("token")))

    def take_over(self) -> None:
        """Make the place this registry's, whoever wrote last; the next lease renews the mark.

        Raises: StateError: when the objects lie in the store's folder, or as `renew`.
        """
        if not self._is_elsewhere():
            raise StateError(
                f"the objects of {self._folder} lie in it: there is nothing to take over"
            )
        self._check_place()
        self._mark(self._new_token(None))

    def findings(self) -> tuple[Finding, ...]:
        """Return what is to be said when another copy wrote last; reads alone do no harm."""
        if not self._is_elsewhere():
            return ()
        rival = self._rival(self._read())
        return () if rival is None else (Finding("objects shared", "warning", rival, _CHOOSE),)

    def _check_place(self) -> None:
        """Refuse a place where nothing of the store is: in an empty one all is found deleted.

        Raises: StateError: when that is so, or nothing can be written there.
        """
        self._objects.check_disk()
        if self._objects.exists(self._config.background_object):
            return
        with self._database.reading() as session:
            needed = needed_objects(session, self._config)
        if len(self._objects.missing(needed)) == len(needed):
            raise StateError(
                f"none of the objects of {self._folder} is at {self._objects.place}: see whether "
                "its disk is there and the path is right, or put them back from a copy"
            )

    def _is_elsewhere(self) -> bool:
        """Return whether a copy of the store's folder would have the same objects as this one."""
        inside = self._folder / "objects"
        is_linked = inside.resolve() != self._folder.resolve() / "objects"
        return self._config.objects_url is not None or is_linked

    def _read(self) -> dict[str, str]:
        """Return the mark; it is empty in a new store, or one of before."""
        data = self._objects.read_mark()
        return {} if data is None else _parsed(data)

    def _rival(self, mark: dict[str, str]) -> str | None:
        """Return who left a mark, in words, when it was not this registry."""
        if not mark:
            return None
        with self._database.reading() as session:
            live = session.get_one(LiveRow, 1)
            known = {live.claim, live.claim_before} - {None}
        if mark["token"] in known:
            return None
        return (
            f"another copy of this store ({mark['folder']}) wrote to "
            f"{self._objects.place} since, and what it learned would be deleted from here"
        )

    def _new_token(self, found: str | None) -> str:
        """Return a new token that the registry knows beside the one that was found."""
        with self._database.writing() as session:
            live = session.get_one(LiveRow, 1)
            live.claim_before, live.claim = found, uuid.uuid4().hex
            return live.claim

    def _mark(self, token: str) -> None:
        """Leave a token where the objects lie."""
        folder = f"{self._folder.absolute()} on {socket.gethostname()}"
        mark = {"store_id": self._config.store_id, "token": token, "folder": folder}
        self._objects.write_mark(json.dumps(mark).encode())


def _parsed(data: bytes) -> dict[str, str]:
    """Return what a mark says; a damaged one is nobody's."""
    try:
        mark = json.loads(data)
        return {name: str(mark[name]) for name in ("token", "folder")}
    except (ValueError, TypeError, KeyError):
        return {"token": "", "folder": "its mark is damaged"}
