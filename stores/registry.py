"""The registry: an open store, and the acts that change it.

Each act is one transaction: rows, a new snapshot and an event. It takes the lock of the store's
one writer by itself; whoever needs it for longer holds it with `writing`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from peer_cl.errors import ChangedError, DamageError, FrozenError, StateError
from stores.config import StoreConfig
from stores.database import Database, WriterLock, batches, postgres_database, sqlite_database
from stores.objects import ObjectStore
from stores.queries import (
    ROLLBACK_STORE,
    DomainState,
    PurgeResult,
    Queries,
    Snapshot,
    document_ids,
    find_domain,
    live_state,
    needed_objects,
    read_chains,
    read_doomed,
    read_earlier,
    read_live,
    read_live_id,
    read_snapshot,
    read_version,
)
from stores.records import (
    KeptQuestion,
    NewScore,
    NewSegment,
    check_domain_name,
    check_text,
    utc_now,
)
from stores.schema import (
    DomainRow,
    ErasedRow,
    EvaluationRow,
    EventRow,
    KeptQuestionRow,
    LiveRow,
    RunRow,
    ScoreRow,
    SegmentDocumentRow,
    SegmentRow,
    SnapshotDomainRow,
    SnapshotRow,
)

_SWITCHES: dict[str, tuple[str, bool, str]] = {
    "freeze": ("is_frozen", True, "already frozen"),
    "unfreeze": ("is_frozen", False, "not frozen"),
    "disable": ("is_enabled", False, "already disabled"),
    "enable": ("is_enabled", True, "already enabled"),
}
_MAX_LOSSES = 400


class Registry:
    """An open store. Made by `Registry.create` or `Registry.open`, closed by `close` or `with`."""

    def __init__(self, folder: Path, config: StoreConfig, database: Database) -> None:
        self.config = config
        self.folder = folder
        self.device = "auto"
        """Where models of this store are to compute, as long as it is open; nothing of it is
        stored."""
        self.staging = folder / "staging"
        self.objects = _objects(folder, config)
        self.database = database
        self.queries = Queries(database, self.objects)
        self._lock = WriterLock(database, folder, config.store_id)

    @classmethod
    def create(
        cls, folder: str | Path, config: StoreConfig, background: bytes, author: str
    ) -> Registry:
        """Make a store and open it. store.toml is written last: before it there is no store.

        `background` holds the statistics of background text.

        Raises: StateError: when the folder, the objects' place or the database is not empty.
        """
        folder = Path(folder).absolute()
        check_text("author", author)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StateError(f"{folder} is not an empty folder; choose another for the store")
        objects = _objects(folder, config)
        if objects.sizes():  # a purge deletes there what no row names: no two stores may share it
            raise StateError(f"objects lie at {objects.place} already; choose an empty place")
        for name in ("objects", "staging"):
            (folder / name).mkdir(parents=True)
        database = _database(folder, config)
        try:
            if tables := database.tables():
                raise StateError(
                    f"the database {database.name} holds tables ({tables[0]}, ...); choose an "
                    "empty one"
                )
            config = dataclasses.replace(config, background_object=objects.put_bytes(background))
            database.upgrade()
            with database.writing() as session:
                snapshot_id = _add_snapshot(session, "create", None)
                session.add(LiveRow(id=1, store_id=config.store_id, snapshot_id=snapshot_id))
                _commit(session, snapshot_id, None, author, "")
            config.write(folder)
        except BaseException:
            database.close()
            shutil.rmtree(folder, ignore_errors=True)  # it was empty
            raise
        return cls(folder, config, database)

    @classmethod
    def open(cls, folder: str | Path) -> Registry:
        """Open a store and bring its registry to the newest schema.

        Raises:
            StoreFormatError: when there is no store, or one of another format.
            DamageError: when store.toml and registry do not belong together, or are damaged.
        """
        folder = Path(folder).absolute()
        config = StoreConfig.read(folder)
        if config.database_url is None and not _sqlite_path(folder).is_file():
            raise DamageError(f"{_sqlite_path(folder)} is missing; restore it from a copy")
        database = _database(folder, config)
        try:
            database.upgrade()
            with database.reading() as session:
                found = session.scalar(select(LiveRow.store_id))
            if found != config.store_id:
                raise DamageError(
                    f"store.toml in {folder} is of store {config.store_id}, its registry of store "
                    f"{found}; restore both from one copy"
                )
        except BaseException:
            database.close()
            raise
        return cls(folder, config, database)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(
        self, author: str, *, expect_snapshot: int | None = None, timeout_seconds: float = 5.0
    ) -> Iterator[Registry]:
        """Hold the lock of the store's one writer; the thread that holds it may nest it.

        An ingest holds it from before it puts objects until they are committed, as a purge deletes
        objects that no row names.

        Args:
            author: Who holds it; others are told.
            expect_snapshot: The snapshot that a person saw before deciding; ChangedError where
                another one is live.
            timeout_seconds: Longest wait for another writer; then StoreLockedError names it.
        """
        with self._lock.held(check_text("author", author), timeout_seconds):
            live = self.queries.live_id()
            if expect_snapshot not in (None, live):
                raise ChangedError(
                    f"the store changed meanwhile: snapshot {live} is live, not "
                    f"{expect_snapshot}; look again, then decide"
                )
            yield self

    @contextmanager
    def _acting(self, author: str) -> Iterator[Session]:
        """Yield a writing session that holds the lock."""
        with self.writing(author), self.database.writing() as session:
            yield session

    # Growing

    def check_growth(self, domain: str, parent: str | None) -> None:
        """Raise what `add_segment` would raise, before hours of training are spent.

        Raises: InputError (no such name is allowed), FrozenError, ChangedError (`parent` is not the
            live version), StateError (the store is full).
        """
        self._check_growth(self.queries.live(), domain, parent)

    def _check_growth(self, live: Snapshot, domain: str, parent: str | None) -> None:
        state = live.state(check_domain_name(domain))
        if state is not None and state.is_frozen:
            raise FrozenError(
                f"domain {domain!r} is frozen and learns nothing; `peer-cl unfreeze {domain}` first"
            )
        version = None if state is None else state.version
        if version != parent:
            raise ChangedError(
                f"domain {domain!r} changed meanwhile: its version is {version or 'none'}, the run "
                f"began from {parent or 'none'}; do it again"
            )
        if state is None and len(live.domains) >= self.config.capacity:
            raise StateError(
                f"the store is full: {len(live.domains)} domains are live and its capacity is "
                f"{self.config.capacity}; remove one, or make a store with a larger capacity"
            )

    def add_segment(self, new: NewSegment, author: str, message: str = "") -> Snapshot:
        """Commit what an ingest grew, which is then live.

        Raises: as `check_growth`; DamageError: when an object that it names is not stored.
        """
        self._check_stored([new])
        with self._acting(author) as session:
            live = read_live(session)
            self._check_growth(live, new.domain, new.parent)
            snapshot_id = _add_snapshot(session, "ingest", live.id)
            label = _add_segment(session, new, snapshot_id)
            state = live.state(new.domain)
            is_enabled = state is None or state.is_enabled
            grown = DomainState(new.domain, new.segment_id, label, False, is_enabled)
            return _commit(session, snapshot_id, live.id, author, message, changed=grown)

    def replace_segments(
        self,
        domain: str,
        version: str,
        onto: str | None,
        segments: Sequence[NewSegment],
        erased_ids: Iterable[str],
        author: str,
        message: str = "",
        action: str = "erase",
    ) -> Snapshot:
        """Commit an erasure, or an ingest of changed files: new segments take the place of the end
        of a live domain's chain.

        Args:
            version: The domain's version when the run began.
            onto: The segment of its chain that stays the last one; None: none stays.
            segments: In order, each on the one before, the first on `onto`.
            erased_ids: Full ids of the documents that are gone; no later ingest learns them.

        Raises: as `add_segment`; StateError: when nothing of the domain would be left.
        """
        self._check_stored(segments)
        with self._acting(author) as session:
            live = read_live(session)
            state = live_state(session, domain, live)
            self._check_growth(live, domain, version)
            snapshot_id = _add_snapshot(session, action, live.id)
            labels = {one.id: one.label for one in read_chains(session, [version])[version]}
            for segment in segments:
                labels[segment.segment_id] = _add_segment(session, segment, snapshot_id)
            last = segments[-1].segment_id if segments else onto
            if last is None:
                raise StateError(
                    f"nothing of {domain!r} would be left; `peer-cl remove {domain}` instead"
                )
            grown = dataclasses.replace(state, version=last, label=labels[last])
            made = _commit(session, snapshot_id, live.id, author, message, changed=grown)
            _mark_erased(session, made, erased_ids)
            return made

    def _check_stored(self, segments: Sequence[NewSegment]) -> None:
        """Raise DamageError unless every object that new segments name is stored."""
        wanted: set[str | None] = {None}
        for segment in segments:
            wanted |= {*segment.objects.values()}
            wanted |= {document.text_object for document in segment.documents}
        if missing := self.objects.missing(one for one in wanted if one is not None):
            raise DamageError(
                f"{len(missing)} of the segment's objects are not stored ({min(missing)}, ...); "
                "ingest again"
            )

    # Switching, rolling back, removing, restoring

    def switch(self, action: str, domain: str, author: str, message: str = "") -> Snapshot:
        """Freeze, unfreeze, disable or enable a live domain, as `action` says.

        Raises: StateError: when it is so already, or the domain is not live.
        """
        field, value, already = _SWITCHES[action]
        with self._acting(author) as session:
            live = read_live(session)
            state = live_state(session, domain, live)
            if getattr(state, field) is value:
                raise StateError(f"{domain} is {already}")
            changed = dataclasses.replace(state, **{field: value})  # type: ignore[arg-type]
            return _change(session, live, changed, action, author, message)

    def roll_back_domain(
        self,
        domain: str,
        version: str | None,
        author: str,
        message: str = "",
        *,
        with_erased: bool = False,
    ) -> Snapshot:
        """Take a live domain back to an earlier version of its chain, or of the chain on which its
        live version was ingested: that may have left out documents of changed files.

        Args:
            version: A label, an id or a unique prefix; None: the version before the live one.
            with_erased: Bring back documents that were erased since.

        Raises: StateError: when it is no earlier version, or brings back erased documents unasked.
        """
        with self._acting(author) as session:
            live = read_live(session)
            state = live_state(session, domain, live)
            earlier = read_earlier(session, state)
            wanted = None if version is None else read_version(session, domain, version).id
            target = next((one for one in reversed(earlier) if wanted in (None, one.id)), None)
            if target is None:
                labels = ", ".join(segment.label for segment in earlier) or "none"
                raise StateError(
                    f"{domain} is at {state.label} and {version or 'the one before'} is no earlier "
                    f"version of it (earlier ones: {labels})"
                )
            changed = dataclasses.replace(state, version=target.id, label=target.label)
            if _purged_among(session, [changed]):
                raise StateError(f"{domain} {target.label} was purged: its bytes are gone")
            if not with_erased:
                _check_unerased(session, live, [changed])
            return _change(session, live, changed, "rollback", author, message)

    def remove(self, domain: str, author: str, message: str = "") -> Snapshot:
        """Take a domain out of the store; `restore` brings it back."""
        with self._acting(author) as session:
            live = read_live(session)
            live_state(session, domain, live)
            snapshot_id = _add_snapshot(session, "remove", live.id)
            return _commit(session, snapshot_id, live.id, author, message, removed=domain)

    def restore(
        self, domain: str, author: str, message: str = "", *, with_erased: bool = False
    ) -> Snapshot:
        """Put a removed domain back, as it was in the newest snapshot that has it.

        Raises: StateError: when it is live, was purged, would bring back erased documents unasked,
            or the store is full.
        """
        with self._acting(author) as session:
            live, row = read_live(session), find_domain(session, domain)
            if live.state(domain) is not None:
                raise StateError(f"{domain} is live already")
            newest = select(func.max(SnapshotDomainRow.snapshot_id)).where(
                SnapshotDomainRow.domain_id == row.id
            )
            snapshot = read_snapshot(session, session.scalars(newest).one())
            state = live_state(session, domain, snapshot)
            if _purged_among(session, [state]):
                raise StateError(f"{domain} was purged: its bytes are gone; ingest it again")
            self._check_growth(live, domain, None)
            if not with_erased:
                _check_unerased(session, live, [state])
            return _change(session, live, state, "restore", author, message)

    def roll_back(
        self,
        snapshot_id: int,
        author: str,
        message: str = "",
        *,
        without_purged: bool = False,
        with_erased: bool = False,
    ) -> Snapshot:
        """Make a new snapshot with the content of an old one.

        Args:
            without_purged: Leave out domains whose versions there were purged since.
            with_erased: Bring back documents that were erased since.

        Raises: StateError: when it holds purged versions or erased documents unasked, or is what
            is live.
        """
        with self._acting(author) as session:
            live, old = read_live(session), read_snapshot(session, snapshot_id)
            purged = _purged_among(session, old.domains)
            if purged and not without_purged:
                raise StateError(
                    f"snapshot {snapshot_id} holds purged versions ({', '.join(sorted(purged))}); "
                    f"leave those domains out: `peer-cl rollback --to {snapshot_id} "
                    "--without-purged`"
                )
            states = tuple(state for state in old.domains if state.domain not in purged)
            if (states, old.calibration) == (live.domains, live.calibration):
                raise StateError(f"snapshot {snapshot_id} holds what is live already ({live.id})")
            if not with_erased:
                _check_unerased(session, live, states)
            new_id = _add_snapshot(session, ROLLBACK_STORE, live.id)
            return _commit(session, new_id, old.id, author, message, without=purged)

    def calibrate(
        self, calibration: dict[str, Any] | None, author: str, message: str = ""
    ) -> Snapshot:
        """Make what requests find be judged by a calibration; None: by the project's own."""
        with self._acting(author) as session:
            live = read_live(session)
            made = _add_snapshot(session, "calibrate", live.id)
            return _commit(session, made, live.id, author, message, calibration=calibration)

    # Purging

    def purge(
        self, domain: str, author: str, message: str = "", *, retired: bool = False
    ) -> PurgeResult:
        """Delete the bytes of a domain that is not live, and look for them afterwards.

        First one transaction deletes the rows; whatever a crash leaves of the files is then named
        by nothing, and the next purge (or `doctor --repair`) deletes it. Bytes that other segments
        need too stay. With `retired`, a live domain's segments go that are in no live version.

        Raises:
            StateError: when the domain is live (with `retired`: is not), or a reader keeps the
                registry's old pages alive.
            DamageError: when something is left.
        """
        with self.writing(author):
            with self.database.writing() as session:
                result = _bury(session, domain, author, message, retired=retired)
            with self.database.reading() as session:
                needed = {*needed_objects(session), self.config.background_object}
            doomed = {one: size for one, size in self.objects.sizes().items() if one not in needed}
            for object_id in sorted(doomed):
                self.objects.delete(object_id)
            for path in self.staging.iterdir():  # an interrupted run may hold its texts
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.database.compact()
            left = sorted(doomed.keys() & self.objects.sizes().keys())
            left += [f"a row of {row}" for row in self._rows_of_purged(domain)]
        if left:
            raise DamageError(
                f"the purge of {domain} left {len(left)} traces ({left[0]}, ...); purge it again"
            )
        return dataclasses.replace(result, num_objects=len(doomed), size_bytes=sum(doomed.values()))

    def _rows_of_purged(self, domain: str) -> list[str]:
        """Return the tables that still hold rows of a domain's purged segments."""
        columns = [SegmentDocumentRow.__table__.c.segment_id, ScoreRow.__table__.c.subject]
        with self.database.reading() as session:
            is_own = SegmentRow.domain_id == find_domain(session, domain).id
            purged = select(SegmentRow.id).where(is_own, SegmentRow.purged_at.is_not(None))
            return [
                str(column.table)
                for column in columns
                if session.scalar(select(column).where(column.in_(purged)).limit(1)) is not None
            ]

    # Scores, evaluations, kept questions and runs: these need no lock

    def put_scores(self, new: Sequence[NewScore]) -> None:
        """Store scores for ever; those that are there already stay as they are.

        Raises: StateError: when a subject's segment, or a scored document, was purged.
        """
        import numpy as np  # verbs that only look at the registry do without

        row, subjects = SegmentDocumentRow, {score.subject for score in new}
        ids = {score.document_id for score in new if score.document_id is not None}
        now = utc_now()
        rows = [
            vars(score)
            | {"log_probs": np.asarray(score.log_probs, "<f8").tobytes(), "created_at": now}
            # In one order, or two evaluations that end together deadlock on a server.
            for score in sorted(new, key=lambda one: (one.subject, one.document_key))
        ]
        with self.database.writing() as session:
            _check_unpurged(session, subjects)
            for some in batches(ids):
                known = select(row.document_id).where(row.document_id.in_(some))
                if len(set(session.scalars(known.with_for_update(read=True)))) < len(some):
                    raise StateError("a scored document was purged meanwhile; evaluate again")
            for some_rows in batches(rows):
                session.execute(_insert(session)(ScoreRow).on_conflict_do_nothing(), some_rows)

    def keep_questions(self, questions: Iterable[KeptQuestion]) -> None:
        """Keep questions, to be asked as long as their documents are live."""
        with self.database.writing() as session:
            ids: dict[str, int] = {}
            rows = []
            for one in questions:
                if one.domain not in ids:
                    ids[one.domain] = find_domain(session, one.domain).id
                rows.append(
                    {
                        "domain_id": ids[one.domain],
                        "document_id": one.document_id,
                        "question_sha256": hashlib.sha256(one.question.encode()).hexdigest(),
                        "question": one.question,
                        "answer": one.answer,
                    }
                )
            for some in batches(rows):
                session.execute(_insert(session)(KeptQuestionRow).on_conflict_do_nothing(), some)

    def put_evaluation(self, snapshot_id: int, report: dict[str, Any]) -> None:
        """Store the report of a snapshot's evaluation; a later one replaces it.

        Raises: StateError: when a version of the snapshot was purged: the report may quote its
            texts.
        """
        new = {"report": report, "created_at": utc_now()}
        with self.database.writing() as session:
            snapshot = read_snapshot(session, snapshot_id)
            _check_unpurged(session, {state.version for state in snapshot.domains})
            written = _insert(session)(EvaluationRow).values(snapshot_id=snapshot_id, **new)
            session.execute(written.on_conflict_do_update(index_elements=["snapshot_id"], set_=new))

    def start_run(self, kind: str, domain: str | None, author: str, message: str = "") -> str:
        """Record that this process begins a run (ingest, evaluate or erase), and return its id."""
        now = utc_now()
        row = RunRow(
            id=uuid.uuid4().hex,
            kind=kind,
            domain=None if domain is None else check_domain_name(domain),
            state="running",
            author=check_text("author", author),
            message=check_text("message", message),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=now,
            updated_at=now,
        )
        with self.database.writing() as session:
            session.add(row)
            return row.id

    def update_run(
        self,
        run_id: str,
        what: str,
        done: int,
        total: int,
        note: str = "",
        losses: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Record how far a run is; of its losses at most some 400 are kept, evenly spaced."""
        thinned = list(losses)[:: 1 + len(losses) // _MAX_LOSSES]
        values = {"what": what, "done": done, "total": total, "note": note, "losses": thinned}
        self._update_run(run_id, values)

    def end_run(
        self, run_id: str, state: str, *, error: str | None = None, snapshot_id: int | None = None
    ) -> None:
        """Record that a run is done, failed or cancelled, and the snapshot it made or evaluated."""
        values = {"state": state, "error": error, "snapshot_id": snapshot_id, "ended_at": utc_now()}
        self._update_run(run_id, values)

    def _update_run(self, run_id: str, values: dict[str, Any]) -> None:
        with self.database.writing() as session:
            own = update(RunRow).where(RunRow.id == run_id)
            session.execute(own.values(updated_at=utc_now(), **values))


def _sqlite_path(folder: Path) -> Path:
    return folder / "registry.sqlite"


def _database(folder: Path, config: StoreConfig) -> Database:
    if config.database_url is not None:
        return postgres_database(config.database_url)
    return sqlite_database(_sqlite_path(folder))


def _objects(folder: Path, config: StoreConfig) -> ObjectStore:
    return ObjectStore(config.objects_url or folder / "objects")


def _insert(session: Session) -> Callable[..., Any]:
    """Return the dialect's own insert, which can say what happens where a row is there."""
    if session.get_bind().dialect.name != "postgresql":
        return sqlite.insert
    from sqlalchemy.dialects import postgresql  # with its drivers: a twentieth of a second

    return postgresql.insert


def _change(
    session: Session, live: Snapshot, changed: DomainState, action: str, author: str, message: str
) -> Snapshot:
    """Commit the live snapshot with one domain's state changed or added."""
    made = _add_snapshot(session, action, live.id)
    return _commit(session, made, live.id, author, message, changed=changed)


def _add_snapshot(session: Session, action: str, parent_id: int | None) -> int:
    """Add an empty snapshot and return its id; segments that come with it refer to it."""
    row = SnapshotRow(parent_id=parent_id, action=action, created_at=utc_now())
    session.add(row)
    session.flush()
    return row.id


def _commit(
    session: Session,
    snapshot_id: int,
    like: int | None,
    author: str,
    message: str,
    *,
    changed: DomainState | None = None,
    removed: str | None = None,
    without: Collection[str] = (),
    **given: dict[str, Any] | None,
) -> Snapshot:
    """Fill a new snapshot, make it live, and record the act.

    Args:
        like: The snapshot whose domains it has; None: it has none.
        changed: The state of the one domain that differs or is new.
        removed: The one domain that it has no longer.
        without: More domains that are left out, by an act on the whole store.
        given: "calibration", where it is not that of `like`.
    """
    of_like = select(SnapshotRow.calibration).where(SnapshotRow.id == like)
    calibration = given["calibration"] if given else session.scalar(of_like)
    session.get_one(SnapshotRow, snapshot_id).calibration = calibration
    domain = changed.domain if changed else removed
    domain_id = find_domain(session, domain).id if domain else None
    row = SnapshotDomainRow
    kept = select(
        literal(snapshot_id), row.domain_id, row.segment_id, row.is_frozen, row.is_enabled
    )
    out = select(DomainRow.id).where(DomainRow.name.in_({domain, *without}))
    # Copied by the database: of a thousand domains rows through Python take most of an act's time.
    session.execute(
        insert(SnapshotDomainRow).from_select(
            ["snapshot_id", "domain_id", "segment_id", "is_frozen", "is_enabled"],
            kept.where(row.snapshot_id == like, row.domain_id.not_in(out)),
        )
    )
    if changed:
        session.add(
            SnapshotDomainRow(
                snapshot_id=snapshot_id,
                domain_id=domain_id,
                segment_id=changed.version,
                is_frozen=changed.is_frozen,
                is_enabled=changed.is_enabled,
            )
        )
    session.execute(update(LiveRow).values(snapshot_id=snapshot_id))
    session.flush()
    made = read_snapshot(session, snapshot_id)
    event = EventRow(
        at=utc_now(),
        author=author,
        action=made.action,
        domain_id=domain_id,
        segment_id=changed.version if changed else None,
        snapshot_id=snapshot_id,
        message=check_text("message", message),
    )
    session.add(event)
    session.flush()
    return made


def _add_segment(session: Session, new: NewSegment, snapshot_id: int) -> str:
    """Write all rows of a segment and return its label."""
    domain = session.scalar(select(DomainRow).where(DomainRow.name == new.domain))
    if domain is None:
        domain = DomainRow(name=new.domain, created_at=utc_now())
        session.add(domain)
        session.flush()
    newest = select(func.max(SegmentRow.ordinal)).where(SegmentRow.domain_id == domain.id)
    ordinal = 1 + (session.scalar(newest) or 0)
    columns = SegmentRow.__table__.columns.keys()
    session.add(
        SegmentRow(
            **{name: value for name, value in vars(new).items() if name in columns},
            id=new.segment_id,
            domain_id=domain.id,
            parent_id=new.parent,
            snapshot_id=snapshot_id,
            ordinal=ordinal,
            label=f"v{ordinal}",
            created_at=utc_now(),
        )
    )
    session.flush()
    links = [
        vars(document) | {"segment_id": new.segment_id, "position": position}
        for position, document in enumerate(new.documents)
    ]
    for some in batches(links):
        session.execute(insert(SegmentDocumentRow), some)
    return f"v{ordinal}"


def _purged_among(session: Session, states: Iterable[DomainState]) -> set[str]:
    """Return the domains of those states whose bytes were purged."""
    domains = {state.version: state.domain for state in states}
    # A segment is never purged without those that grew on it: its own mark tells of its version.
    purged = SegmentRow.id.in_(domains) & SegmentRow.purged_at.is_not(None)
    return {domains[version] for version in session.scalars(select(SegmentRow.id).where(purged))}


def _check_unpurged(session: Session, versions: Iterable[str]) -> None:
    """Refuse what was found out about segments that were purged meanwhile."""
    query = select(SegmentRow).where(SegmentRow.id.in_(versions)).with_for_update(read=True)
    for row in session.scalars(query):
        if row.purged_at is not None:
            raise StateError(f"version {row.id[:12]} was purged meanwhile; evaluate again")


def _check_unerased(session: Session, live: Snapshot, states: Iterable[DomainState]) -> None:
    """Refuse states that would bring back documents erased from what is live."""
    for state in states:
        now = live.state(state.domain)
        if now == state:
            continue
        domain_id = find_domain(session, state.domain).id
        erased = select(func.count()).where(
            ErasedRow.domain_id == domain_id, ErasedRow.document_id.in_(document_ids(state.version))
        )
        if now is not None:
            erased = erased.where(ErasedRow.document_id.not_in(document_ids(now.version)))
        if num := session.scalar(erased):
            raise StateError(
                f"{state.domain} {state.label} would bring back erased documents ({num}); if that "
                "is wanted, say so with --with-erased (with_erased=True)"
            )


def _mark_erased(session: Session, made: Snapshot, document_ids: Iterable[str]) -> None:
    """Record the documents of an erasure, by the snapshot that it made."""
    event = session.scalars(select(EventRow).where(EventRow.snapshot_id == made.id)).one()
    about = {"domain_id": event.domain_id, "event_id": event.id, "at": event.at}
    rows = [{"document_id": document_id, **about} for document_id in document_ids]
    for some in batches(rows):  # one may have been brought back, and is erased again
        session.execute(_insert(session)(ErasedRow).on_conflict_do_nothing(), some)


def _bury(
    session: Session, domain: str, author: str, message: str, *, retired: bool
) -> PurgeResult:
    """Delete the rows of the segments that a purge is about, and mark these as purged."""
    domain_id, row = find_domain(session, domain).id, SegmentDocumentRow
    ids = [segment.id for segment in read_doomed(session, domain, retired=retired)]
    is_ours = row.segment_id.in_(ids)
    named = needed_objects(session, SegmentRow.id.in_(ids)).keys()
    documents = set(session.scalars(select(row.document_id).where(is_ours)))
    held = select(SnapshotDomainRow.snapshot_id).where(SnapshotDomainRow.segment_id.in_(ids))
    snapshots = tuple(sorted(set(session.scalars(held))))

    # First what `put_scores` locks, so that no score of a purged version comes in meanwhile.
    ours = update(SegmentRow).where(SegmentRow.id.in_(ids))
    session.execute(ours.values(purged_at=utc_now(), config={}, losses=[]))
    session.execute(delete(row).where(is_ours))
    for some in batches(list(documents)):
        documents -= set(session.scalars(select(row.document_id).where(row.document_id.in_(some))))
    session.execute(delete(ScoreRow).where(ScoreRow.subject.in_(ids)))
    for some in batches(documents):
        session.execute(delete(ScoreRow).where(ScoreRow.document_id.in_(some)))
        session.execute(delete(KeptQuestionRow).where(KeptQuestionRow.document_id.in_(some)))
    for numbers in batches(snapshots):
        session.execute(delete(EvaluationRow).where(EvaluationRow.snapshot_id.in_(numbers)))
    if not retired:
        session.execute(delete(ErasedRow).where(ErasedRow.domain_id == domain_id))
    # Notes and errors of runs may quote titles.
    is_about_it = (RunRow.domain == domain) | RunRow.domain.is_(None)
    ended = update(RunRow).where(RunRow.state != "running", is_about_it)
    session.execute(ended.values(what="", note="", losses=[], error=None))
    if ids:
        event = EventRow(
            at=utc_now(),
            author=author,
            action="purge",
            domain_id=domain_id,
            snapshot_id=read_live_id(session),
            message=check_text("message", message),
        )
        session.add(event)
    return PurgeResult(
        domain=domain,
        num_segments=len(ids),
        num_documents=len(documents),
        num_objects=0,
        num_shared_objects=len(named & needed_objects(session).keys()),
        size_bytes=0,
        snapshots=snapshots,
    )
