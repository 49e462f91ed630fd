"""The registry: a store's life, one method an act or a question.

Acts need the lease (`with registry.writing("ann")`), run in one transaction each and leave a new
snapshot and an event; questions see one state of the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from peer_cl.errors import InputError
from stores import (
    chains,
    doctoring,
    documents,
    evaluations,
    glancing,
    growth,
    lifecycle,
    purging,
    readers,
    scores,
    snapshots,
    uses,
)
from stores.claims import Claim
from stores.config import StoreConfig
from stores.database import Database
from stores.erased import ErasedBook
from stores.job_book import JobBook
from stores.layout import StoreLayout, connect, finish, prepare
from stores.leases import Writer
from stores.objects import ObjectStore
from stores.processes import user_name
from stores.queries import (
    Document,
    DocumentPlace,
    DocumentUse,
    DomainDetail,
    DomainState,
    DomainSummary,
    EvaluatedSnapshot,
    Evaluation,
    Event,
    ExpertUse,
    Finding,
    HeldBy,
    HeldOutScores,
    PurgeResult,
    Ranking,
    Segment,
    Snapshot,
)
from stores.records import NewScore, NewSegment
from stores.texts import read_text
from stores.words import check_words


class Registry:
    """An open store. Made by `Registry.create` or `Registry.open`, closed by `close` or `with`."""

    def __init__(self, layout: StoreLayout, config: StoreConfig, database: Database) -> None:
        self.layout = layout
        self.config = config
        self.objects = ObjectStore(layout.objects_at(config.objects_url), layout.staging)
        self._database = database
        self._claim = Claim(database, self.objects, config, layout.folder)
        self._writer = Writer(self._claim.lease)
        self.jobs = JobBook(database)
        """Work in processes of its own."""
        self.erased = ErasedBook(database)
        """What was erased exactly, and is not learned again unasked."""

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self.layout.folder

    @classmethod
    def create(cls, folder: str | Path, config: StoreConfig, *, who: str = "") -> Registry:
        """Make a store and open it. store.toml is written last: before it there is no store.

        Raises: StateError: when there is a store in the folder already, or another is being made.
        """
        layout = StoreLayout(Path(folder))
        database = prepare(layout, config, check_words("who", who or user_name()))
        try:
            made = cls(layout, config, database)
            made._claim.renew()  # before it is a store: the next `init` sees whose the place is
            finish(layout, config, database)
        except BaseException:
            database.close()
            raise
        return made

    @classmethod
    def open(cls, folder: str | Path) -> Registry:
        """Open a store; an older registry is copied and brought to the newest schema first.

        Raises:
            StoreFormatError: when there is no store, or one of a newer format.
            DamageError: when store.toml and registry do not belong together, or are damaged.
        """
        layout = StoreLayout(Path(folder))
        config = StoreConfig.read(layout.config)
        return cls(layout, config, connect(layout, config))

    def close(self) -> None:
        """Give the lease back, if held, and close all connections."""
        self._writer.close()
        self._database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_writable(self) -> None:
        """Raise a StateError where this store can only be read, before hours are spent."""
        self._database.check_writable()

    @contextmanager
    def writing(self, who: str = "", *, expect: int | None = None) -> Iterator[Registry]:
        """Hold the lease of the store's one writer; may be nested by the thread that holds it.

        Args:
            who: holds it; default: the user's name.
            expect: the snapshot that a person saw before deciding. Where another is live by the
                first act, that act raises a ChangedError and changes nothing.

        Raises:
            InputError: when `who` cannot be kept.
            StoreLockedError: when another writer, or another thread, holds it; it is named.
            StateError: when the store is read-only here, or a copy of this store wrote where its
                objects lie.
        """
        with self._writer.writing(check_words("who", who or user_name()), expect):
            yield self

    @contextmanager
    def _acting(self) -> Iterator[Session]:
        """Yield a writing session after making sure that the lease is ours."""
        with self._database.writing() as session:
            self._writer.check(session)
            live = snapshots.live_id(session)
            self._writer.check_expected(live)
            yield session
            self.jobs.note(session, live, snapshots.live_id(session))

    # Acts

    def check_growth(self, domain: str, parent: str | None) -> None:
        """Raise what `add_segment` would raise, before hours of training are spent."""
        with self._database.reading() as session:
            live = snapshots.live_snapshot(session)
        growth.check_growth(live, domain, parent, self.config.capacity)

    def add_segment(self, segment: NewSegment, who: str, why: str = "") -> Snapshot:
        """Commit what an ingest grew: one transaction, after which it is live.

        Raises:
            FrozenError: when the domain is frozen.
            StateError: when the domain has moved since the run began, or the store is full.
            DamageError: when an object that it names is not in the object store.
        """
        (ready,) = growth.make_ready(self.objects, [segment])
        with self._acting() as session:
            return growth.add_segment(
                session, ready, capacity=self.config.capacity, who=who, why=why
            )

    def regrow(
        self,
        domain: str,
        version: str,
        onto: str | None,
        segments: Sequence[NewSegment],
        who: str,
        why: str = "",
        *,
        erased: Sequence[str] = (),
    ) -> Snapshot:
        """Commit an erasure: new segments take the end of a chain's place; see `growth.regrow`."""
        ready = growth.make_ready(self.objects, segments)
        by = {"who": who, "why": why}
        with self._acting() as session:
            return growth.regrow(
                session, domain, version=version, onto=onto, segments=ready, erased=erased, **by
            )

    def freeze(self, domain: str, who: str, why: str = "") -> Snapshot:
        """Make a domain refuse new segments."""
        return self._switch("freeze", domain, who, why)

    def unfreeze(self, domain: str, who: str, why: str = "") -> Snapshot:
        """Let a domain learn again."""
        return self._switch("unfreeze", domain, who, why)

    def disable(self, domain: str, who: str, why: str = "") -> Snapshot:
        """Keep a domain from being asked."""
        return self._switch("disable", domain, who, why)

    def enable(self, domain: str, who: str, why: str = "") -> Snapshot:
        """Let a domain be asked again."""
        return self._switch("enable", domain, who, why)

    def _switch(self, action: str, domain: str, who: str, why: str) -> Snapshot:
        with self._acting() as session:
            return lifecycle.switch(session, action, domain, who=who, why=why)

    def roll_back_domain(
        self,
        domain: str,
        to_version: str | None,
        who: str,
        why: str = "",
        *,
        with_erased: bool = False,
    ) -> Snapshot:
        """Take a domain back to an earlier version, or (None) to before it came."""
        with self._acting() as session:
            return lifecycle.roll_back_domain(
                session, domain, to_version, with_erased=with_erased, who=who, why=why
            )

    def bring_back(self, domain: str, who: str, why: str = "") -> Snapshot:
        """Put a domain that is out of the store back, as it last was in it."""
        with self._acting() as session:
            capacity = self.config.capacity
            return lifecycle.bring_back(session, domain, capacity=capacity, who=who, why=why)

    def roll_back(
        self,
        snapshot_id: int,
        who: str,
        why: str = "",
        *,
        without_purged: bool = False,
        with_erased: bool = False,
    ) -> Snapshot:
        """Make a new snapshot with the content of an old one, and make it live."""
        how = {"without_purged": without_purged, "with_erased": with_erased}
        with self._acting() as session:
            return lifecycle.roll_back(session, snapshot_id, **how, who=who, why=why)

    def check_purgeable(self, domain: str, **how: bool) -> tuple[str, ...]:
        """Return what versions `purge` would take, or raise what it would; see `purging`."""
        with self._database.reading() as session:
            return purging.check_purgeable(session, domain, self.layout, **how)

    def purge(self, domain: str, who: str, why: str = "", *, retired: bool = False) -> PurgeResult:
        """Delete the bytes of a domain that is not live, and prove it; a killed purge is finished.

        With `retired`, of a live domain: those of its segments that are in no live version.
        """
        with self._acting() as session:
            grave = purging.bury(session, domain, self.layout, who=who, why=why, retired=retired)
        parts = (self._database, self.objects, self.layout, self.config)
        return purging.erase(grave, *parts, self._acting)

    def put_scores(self, new_scores: Sequence[NewScore]) -> None:
        """Store scores for ever, but of what was purged; old ones stay. Needs no lease."""
        with self._database.writing() as session:
            scores.put_scores(session, new_scores)

    def rename_scores(self, renamed: Mapping[str, Mapping[str, str]]) -> int:
        """Give documents' scores other keys; see `scores.rename_scores`. Needs no lease."""
        with self._database.writing() as session:
            return scores.rename_scores(session, renamed)

    def put_evaluation(self, snapshot_id: int, report: dict[str, Any]) -> None:
        """Store the report of a snapshot's evaluation, unless it was purged. Needs no lease."""
        with self._database.writing() as session:
            scores.put_evaluation(session, snapshot_id, report)

    def doctor(
        self, *, repair: bool = False, take_over: bool = False, drop_unfinished: bool = False
    ) -> tuple[Finding, ...]:
        """Check everything; with `repair`, remove what a crash left behind.

        Where the registry's file is damaged, nothing is removed, and objects are only compared with
        their own names.

        With `drop_unfinished`, the repair also removes checkpoints of ingests that did not finish,
        which then begin anew, and uploads and logs of failed and lost jobs.
        With `take_over`, first make the objects' place this registry's, whichever copy wrote last.

        Raises:
            StoreLockedError: when it is to repair while another writer is alive.
            StateError: when it is to repair where a copy of this store wrote last.
            InputError: when it is to drop what is unfinished without a repair.
        """
        if drop_unfinished and not repair:
            raise InputError("what is unfinished is dropped by a repair: add --repair, repair=True")
        if damage := doctoring.check_registry(self._database):
            return damage + doctoring.check_named_objects(self.objects)
        parts = (self._database, self.objects, self.layout, self.config, self._claim)
        found = () if self._writer.is_mine else doctoring.check_lease(self._database)
        if take_over:
            self._claim.take_over()
        if not (repair or take_over):
            is_quiet = all(item.severity != "note" for item in found)
            return found + doctoring.examine(*parts, is_quiet=is_quiet)
        with self.writing("doctor"):
            acting = self._acting if repair else None
            return found + doctoring.examine(
                *parts, is_quiet=True, acting=acting, drops=drop_unfinished
            )

    # Questions

    def live(self) -> Snapshot:
        """Return the live snapshot."""
        with self._database.reading() as session:
            return snapshots.live_snapshot(session)

    def snapshot(self, snapshot_id: int) -> Snapshot:
        """Return a snapshot by its id."""
        with self._database.reading() as session:
            return snapshots.read_snapshot(session, snapshot_id)

    def ancestry(self, snapshot_id: int) -> tuple[Snapshot, ...]:
        """Return a snapshot and all that were live before it, oldest first."""
        with self._database.reading() as session:
            return snapshots.read_ancestry(session, snapshot_id)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return every snapshot, oldest first."""
        with self._database.reading() as session:
            return snapshots.read_all_snapshots(session)

    def glance(self) -> tuple[Finding, ...]:
        """Return what a quick look finds missing of what the live snapshot needs."""
        with self._database.reading() as session:
            return glancing.glance(session, self.objects, self.config)

    def check_askable(self, domain: str, snapshot: Snapshot | None = None) -> DomainState:
        """Return a domain's state in a snapshot (default: the live one) when it may be asked.

        Raises:
            UnknownError: when there never was such a domain.
            StateError: when it was rolled back, purged or disabled.
        """
        with self._database.reading() as session:
            return snapshots.askable_state(session, domain, snapshot)

    def history(self, limit: int | None = None, *, domain: str | None = None) -> tuple[Event, ...]:
        """Return events, the newest first; of a domain also the restores that changed it."""
        with self._database.reading() as session:
            return readers.read_events(session, domain=domain, limit=limit)

    def domains(self) -> tuple[DomainSummary, ...]:
        """Return one line for every domain that ever was."""
        with self._database.reading() as session:
            return readers.read_summaries(session)

    def domain(self, name: str) -> DomainDetail:
        """Return everything about a domain but its documents."""
        with self._database.reading() as session:
            return readers.read_domain(session, name)

    def chain(self, version: str) -> tuple[Segment, ...]:
        """Return the segments of a version (a full id), oldest first."""
        with self._database.reading() as session:
            return chains.read_chain(session, version)

    def purged_versions(self) -> frozenset[str]:
        """Return the ids of all versions whose bytes are gone."""
        with self._database.reading() as session:
            return chains.read_purged_versions(session)

    def resolve_version(self, domain: str, text: str) -> str:
        """Return the full id of the version that a label, an id or a unique prefix means."""
        with self._database.reading() as session:
            return chains.resolve_version(session, domain, text)

    def documents(
        self,
        domain: str,
        version: str | None = None,
        split: str | None = None,
        kind: str | None = None,
    ) -> tuple[Document, ...]:
        """Return the documents of a domain at a version (default: the live one)."""
        with self._database.reading() as session:
            if version is None:
                version = snapshots.live_state(session, domain).version
            else:
                version = chains.resolve_version(session, domain, version)
            segment_ids = [segment.id for segment in chains.read_chain(session, version)]
            return documents.read_documents(session, segment_ids, split=split, kind=kind)

    def document_places(self, text: str) -> tuple[DocumentPlace, ...]:
        """Return the places that hold the document an id, or its beginning, means: oldest first."""
        with self._database.reading() as session:
            return documents.read_places(session, text)

    def holders(self, document_ids: Iterable[str]) -> set[str]:
        """Return the names of the domains, live or not, that hold any of some documents."""
        with self._database.reading() as session:
            return documents.read_holders(session, document_ids)

    def document_uses(
        self, document_id: str, segment_ids: Sequence[str]
    ) -> tuple[DocumentUse, ...]:
        """Return the rows that a document (a full id) uses in some segments, by host layer."""
        with self._database.reading() as session:
            return uses.read_document_uses(session, document_id, segment_ids)

    def expert_uses(self, segment_ids: Sequence[str]) -> tuple[ExpertUse, ...]:
        """Return the use of every row of some segments that fired."""
        with self._database.reading() as session:
            return uses.read_expert_uses(session, segment_ids)

    def num_learned(self, segment_id: str) -> int:
        """Return of how many documents the use of a segment's rows was recorded."""
        with self._database.reading() as session:
            return uses.count_learned(session, segment_id)

    def rank_documents(
        self, segment_id: str, asked: Mapping[int, Mapping[int, float]], num: int
    ) -> Ranking:
        """Return the documents of a segment whose rows a text asks, with scores from 0 to 1.

        Args:
            segment_id: the segment's.
            asked: by host layer and row, the router's weight summed over the text.
            num: how many documents.
        """
        with self._database.reading() as session:
            return uses.rank_documents(session, segment_id, asked, num)

    def held_documents(
        self, segment_id: str, rows: Mapping[int, Sequence[int]]
    ) -> tuple[HeldBy, ...]:
        """Return which documents some rows of a segment hold.

        Args:
            segment_id: the segment's.
            rows: row numbers, by host layer; rows that never fired are left out.
        """
        with self._database.reading() as session:
            return uses.read_held_by(session, segment_id, rows)

    def document_text(self, document: Document) -> str:
        """Return a document's text, verified; see `texts.read_text`."""
        return read_text(self.objects, document)

    def known_documents(self, domain: str) -> set[str]:
        """Return the ids of the documents in a domain's live chain."""
        with self._database.reading() as session:
            return documents.known_documents(session, domain)

    def elsewhere(self, document_ids: Iterable[str], domain: str) -> dict[str, tuple[str, ...]]:
        """Return where else documents are known: other live domains, or "rolled back"."""
        with self._database.reading() as session:
            return documents.known_elsewhere(session, document_ids, domain)

    def scores(self, subject: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the scores that are known of a subject, by document key."""
        with self._database.reading() as session:
            return scores.read_scores(session, subject, keys)

    def evaluation(self, snapshot_id: int) -> dict[str, Any] | None:
        """Return the last report of a snapshot's evaluation, or None."""
        with self._database.reading() as session:
            return scores.read_evaluation(session, snapshot_id)

    def evaluations(self, snapshot_id: int) -> tuple[Evaluation, ...]:
        """Return the reports of a snapshot and of all before it, the oldest snapshot's first."""
        with self._database.reading() as session:
            return evaluations.read_evaluations(session, snapshot_id)

    def evaluated_at(self, snapshot_id: int) -> str | None:
        """Return when a snapshot, or one before it, was evaluated last; None: never."""
        with self._database.reading() as session:
            return evaluations.read_evaluated_at(session, snapshot_id)

    def evaluated(self) -> tuple[EvaluatedSnapshot, ...]:
        """Return the snapshots that were evaluated, the newest first."""
        with self._database.reading() as session:
            return scores.read_evaluated(session)

    def held_out_scores(
        self, version: str, asked: Sequence[str] | None = None, live: Sequence[str] = ()
    ) -> tuple[HeldOutScores, ...]:
        """Return what the base and a version (a full id) make of its held-out documents.

        With `asked`, also what each of those versions makes of them; without those that `live`
        ones learned.
        """
        with self._database.reading() as session:
            return scores.read_held_out_scores(session, version, asked, live)
