"""What was erased exactly: a list that tells of a text whether it is on it, and no more.

An exact erasure writes it in its own transaction. Marks are hashes of documents' ids, salted with a
number of this store: who reads the list learns how many there are, and of a text that he has
whether it is one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, StateError
from stores.batches import batches
from stores.chains import read_chain
from stores.clock import utc_now
from stores.database import Database
from stores.queries import DomainState
from stores.schema import (
    DomainRow,
    ErasedRow,
    EventRow,
    LiveRow,
    SegmentDocumentRow,
    SnapshotDomainRow,
)
from stores.snapshots import find_domain, live_snapshot

_NUM_SHOWN = 3
_SHORT = 12


class ErasedBook:
    """What was erased exactly from the domains of an open store.

    Args:
        database: the registry's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def among(self, domain: str, document_ids: Iterable[str]) -> frozenset[str]:
        """Return those of some documents (full ids) that an ingest into a domain leaves out."""
        with self._database.reading() as session:
            marks = _left_out(session, domain)
            return frozenset(_marked(session, marks, document_ids))

    def count(self, domain: str) -> int:
        """Return how many documents an ingest into a domain would leave out."""
        with self._database.reading() as session:
            return len(_left_out(session, domain))

    def held_by(self, states: Iterable[DomainState]) -> dict[str, tuple[str, ...]]:
        """Return which documents some versions hold that were erased exactly since, by domain."""
        with self._database.reading() as session:
            return read_held(session, states)


def write_erased(
    session: Session, domain: str, document_ids: Sequence[str], snapshot_id: int
) -> None:
    """Put documents on a domain's list.

    Args:
        session: the writing session of their erasure.
        domain: the domain's name.
        document_ids: full ids; facts' questions and rewordings go with their documents.
        snapshot_id: what the erasure made.
    """
    if not document_ids:
        return
    domain_id = find_domain(session, domain).id
    event_id = session.scalar(
        select(func.max(EventRow.id)).where(EventRow.snapshot_id == snapshot_id)
    )
    salt = _salt(session)
    marks = sorted({_mark(salt, document_id) for document_id in document_ids})
    for some in batches(marks):  # erased again, after it was learned again
        session.execute(
            delete(ErasedRow).where(ErasedRow.domain_id == domain_id, ErasedRow.mark.in_(some))
        )
    session.add_all(
        ErasedRow(domain_id=domain_id, mark=mark, event_id=event_id, at=utc_now(), lifted_at=None)
        for mark in marks
    )
    session.flush()


def lift(session: Session, domain: str, document_ids: Iterable[str]) -> None:
    """Let documents be live again: they were learned again on purpose.

    Their marks stay. Who takes that version back is not to learn them with the next ingest.
    """
    salt = _live_row(session).salt
    if salt is None:
        return
    domain_id = find_domain(session, domain).id
    _lift(session, domain_id, {_mark(salt, document_id) for document_id in document_ids})


def forget_domain(session: Session, domain_id: int) -> None:
    """Remove a domain's list: all of the domain is purged."""
    session.execute(delete(ErasedRow).where(ErasedRow.domain_id == domain_id))


def settle(session: Session, states: Iterable[DomainState]) -> None:
    """Bring the lists in line with versions that have just become live again.

    What such a version holds was brought back on purpose, and may be again without a word. Where
    the version comes after the erasure, it may not.

    Args:
        session: a writing session.
        states: of the domains whose version another snapshot has chosen.
    """
    for state in states:
        marks = _marks(session, state.domain, with_lifted=True)
        if not marks:
            continue
        salt, domain_id = _salt(session), find_domain(session, state.domain).id
        held = {_mark(salt, found) for found in _documents(session, state.version)} & marks
        mine = ErasedRow.domain_id == domain_id
        version = SnapshotDomainRow.segment_id == state.version
        came = session.scalar(select(func.min(SnapshotDomainRow.snapshot_id)).where(version))
        after = select(EventRow.id).where(
            or_(EventRow.snapshot_id <= came, EventRow.segment_id == state.version)
        )
        again = update(ErasedRow).where(mine, ErasedRow.event_id.in_(after))
        session.execute(again.values(lifted_at=None))
        _lift(session, domain_id, held)


def check_unerased(
    session: Session, states: Iterable[DomainState], what: str, command: str
) -> None:
    """Refuse versions that hold what was erased exactly since.

    Args:
        session: any session.
        states: of the domains that are to be live.
        what: what holds them, for the message.
        command: how it is done all the same.

    Raises: StateError: saying how many documents, of which the first are named, and the command.
    """
    held = read_held(session, states)
    if not held:
        return
    ids = [found for ids in held.values() for found in ids]
    shown = ", ".join(found[:_SHORT] for found in ids[:_NUM_SHOWN])
    more = f" and {len(ids) - _NUM_SHOWN} more" if len(ids) > _NUM_SHOWN else ""
    documents = "a document" if len(ids) == 1 else f"{len(ids)} documents"
    raise StateError(
        f"{what} holds {documents} of {', '.join(held)} erased exactly since ({shown}{more}); to "
        f"bring back what was erased: `{command} --with-erased`, in Python with_erased=True"
    )


def read_held(session: Session, states: Iterable[DomainState]) -> dict[str, tuple[str, ...]]:
    """Return which documents some versions hold that are on their domains' lists, by domain."""
    listed = select(DomainRow.name).join(ErasedRow, ErasedRow.domain_id == DomainRow.id)
    names = set(session.scalars(listed.where(ErasedRow.lifted_at.is_(None))))
    found = {
        state.domain: tuple(sorted(_marked(session, marks, documents)))
        for state in states
        if state.domain in names
        for marks, documents in [
            (_marks(session, state.domain), _documents(session, state.version))
        ]
    }
    return {domain: ids for domain, ids in found.items() if ids}


def _left_out(session: Session, domain: str) -> set[str]:
    """Return the marks of a domain's list, without those of what its live version holds.

    Whether they were lifted says nothing here: the version that held them may be live no more.
    """
    marks = _marks(session, domain, with_lifted=True)
    state = live_snapshot(session).state(domain) if marks else None
    if state is None:
        return marks
    salt = _salt(session)
    return marks - {_mark(salt, found) for found in _documents(session, state.version)}


def _marked(session: Session, marks: set[str], document_ids: Iterable[str]) -> list[str]:
    if not marks:
        return []
    salt = _salt(session)
    return [found for found in dict.fromkeys(document_ids) if _mark(salt, found) in marks]


def _lift(session: Session, domain_id: int, marks: Iterable[str]) -> None:
    for some in batches(sorted(marks)):
        off = update(ErasedRow).where(ErasedRow.domain_id == domain_id, ErasedRow.mark.in_(some))
        session.execute(off.values(lifted_at=utc_now()))


def _marks(session: Session, domain: str, *, with_lifted: bool = False) -> set[str]:
    query = select(ErasedRow.mark).join(DomainRow, DomainRow.id == ErasedRow.domain_id)
    query = query.where(DomainRow.name == domain)
    if not with_lifted:
        query = query.where(ErasedRow.lifted_at.is_(None))
    return set(session.scalars(query))


def _documents(session: Session, version: str) -> set[str]:
    """Return the ids of all documents that a version holds."""
    chain = [segment.id for segment in read_chain(session, version)]
    query = select(SegmentDocumentRow.document_id)
    return set(session.scalars(query.where(SegmentDocumentRow.segment_id.in_(chain))))


def _mark(salt: str, document_id: str) -> str:
    return hmac.new(bytes.fromhex(salt), document_id.encode(), hashlib.sha256).hexdigest()


def _salt(session: Session) -> str:
    """Return the store's salt, which is made at the first erasure."""
    row = _live_row(session)
    if row.salt is None:
        row.salt = secrets.token_hex(32)
        session.flush()
    return row.salt


def _live_row(session: Session) -> LiveRow:
    row = session.get(LiveRow, 1)
    if row is None:
        raise DamageError("the registry has no live snapshot; restore it from a copy")
    return row
