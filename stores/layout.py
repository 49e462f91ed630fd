"""Where things lie in a store's folder, and how a registry is made and reached there."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from peer_cl.durable import sync_folder
from peer_cl.errors import DamageError, StateError
from stores.config import FILE_NAME, StoreConfig
from stores.database import Database, read_only_database, sqlite_database, url_database
from stores.index_files import INDEX_NAMES
from stores.objects import MARK, foreign_to_objects, url_scheme
from stores.schema import LeaseRow, LiveRow, SegmentRow, SnapshotRow
from stores.snapshots import commit_snapshot
from stores.trusted import check_trusted, trust_database
from stores.upgrades import COPY_MARK, check_current, upgrade

# Every name that is written into a store's folders while something is in the making. What has
# another name is a user's: it is told, and never removed.
_TEMPORARY = re.compile(r"[0-9a-f]{32}\.part")
_CHECKPOINT = re.compile(r"run-(?:(?P<domain>[0-9a-f]{12})-)?[0-9a-f]{32}\.safetensors")
_UPLOAD = re.compile(r"upload-[0-9a-f]{64}\.(txt|md|markdown|jsonl)")
_JOB_LOG = re.compile(r"job-[0-9a-f]{32}\.log")
_WORK = re.compile(r"run-[0-9a-f]{32}\.tmp|tap(-[0-9a-f]{32})?\.f32")
_SQLITE_COMPANION = re.compile(r"-(wal|shm|journal)")
_COPY = r"[0-9]{4}(\.[0-9]+)?(\.[0-9a-f]{32})?(\.part)?"
_NUM_SHOWN = 3


@dataclass(frozen=True)
class StoreLayout:
    """The places within a store's folder.

    Absolute: a process that changes its working folder goes on in the same store.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())

    @property
    def config(self) -> Path:
        """store.toml."""
        return self.folder / FILE_NAME

    @property
    def database(self) -> Path:
        """The SQLite registry."""
        return self.folder / "registry.sqlite"

    @property
    def objects(self) -> Path:
        """Immutable objects, named by their hash."""
        return self.folder / "objects"

    def objects_at(self, url: str | None) -> str | Path:
        """Return where objects lie: in the folder, or where store.toml says.

        A path in it that is not absolute is meant from the folder, wherever a process stands.
        """
        if url is None:
            return self.objects
        return url if len(url_scheme(url)) > 1 else self.folder / url

    @property
    def index(self) -> Path:
        """FAISS files: a cache."""
        return self.folder / "index"

    @property
    def staging(self) -> Path:
        """Work in progress; what is ours in it may be deleted at any time."""
        return self.folder / "staging"

    @property
    def is_read_only(self) -> bool:
        """Whether this user can only read here: SQLite writes into the folder, too."""
        places = [self.folder, *([self.database] if self.database.exists() else [])]
        return not all(os.access(place, os.W_OK) for place in places)

    def old_copies(self) -> list[Path]:
        """Copies of the registry made before migrations."""
        pattern = re.compile(re.escape(self.database.name + COPY_MARK) + _COPY)
        return _named(self.folder, pattern)

    def checkpoint(self, domain: str, sha256: str) -> Path:
        """Return where the checkpoint of a domain's run lies: a purge has to know whose it is.

        Args:
            domain: its name, of which a hash stands in the file's name.
            sha256: of all that the run depends on.
        """
        return self.staging / f"run-{_domain_tag(domain)}-{sha256[:32]}.safetensors"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints of ingests that did not finish."""
        return _named(self.staging, _CHECKPOINT)

    def has_checkpoint(self, domain: str) -> bool:
        """Return whether an ingest into a domain did not finish."""
        tag = _domain_tag(domain)
        return any(path.name.startswith(f"run-{tag}-") for path in self.checkpoints())

    def leftovers(self) -> list[Path]:
        """Return files in the making that are of no use once their writer is no more."""
        return _named(self.staging, _TEMPORARY, _WORK) + _named(self.index, _TEMPORARY)

    def upload(self, sha256: str, suffix: str) -> Path:
        """Return where an uploaded file lies until its job has ended: never under a user's words.

        Args:
            sha256: of its bytes.
            suffix: .txt, .md, .markdown or .jsonl.
        """
        return self.staging / f"upload-{sha256}{suffix}"

    def job_log(self, job_id: str) -> Path:
        """Return where the process of a job writes what nobody else hears."""
        return self.staging / f"job-{job_id}.log"

    def job_files(self) -> list[Path]:
        """Return the uploads and logs of jobs."""
        return _named(self.staging, _UPLOAD, _JOB_LOG)

    def foreign(self) -> list[Path]:
        """Return what lies in objects, staging and index under names never written there."""
        mark = self.objects / MARK  # whose the objects are, where they lie elsewhere
        among = [path for path in foreign_to_objects(self.objects) if path != mark]
        return self._foreign_beside() + among

    def _foreign_beside(self) -> list[Path]:
        """Return what no store writes into staging and index."""
        ours = {*self.checkpoints(), *self.leftovers(), *self.job_files()}
        ours |= set(_named(self.index, INDEX_NAMES))
        return [path for path in _entries(self.staging) + _entries(self.index) if path not in ours]

    def forget(self, domain: str, of_jobs: Iterable[Path] = ()) -> None:
        """Remove what may hold a purged domain's traces: index, work in progress, old copies.

        Files that were not written by a store are left alone: see `foreign`.

        Args:
            domain: the purged one; checkpoints that are known to be others' stay.
            of_jobs: uploads and logs that no job needs any more.
        """
        made = [path for path in self.checkpoints() if not _is_of_another(path, domain)]
        made += self.leftovers() + _named(self.index, INDEX_NAMES)
        for path in [*made, *of_jobs, *self.old_copies()]:
            path.unlink(missing_ok=True)  # a reader that builds the index renames its file
        sync_folder(self.folder)

    def check_is_free(self) -> None:
        """Check that a store can be made here: nothing but what a crashed `create` left.

        `doctor` and purge delete in a store's folder, so nothing of the user's may be in it.

        Raises: StateError: naming what is there.
        """
        if self.config.exists():
            raise StateError(f"there is a store at {self.folder} already; choose another folder")
        if self.folder.exists() and not self.folder.is_dir():
            raise StateError(f"{self.folder} is a file; choose another folder for the store")
        found = [path for path in _entries(self.folder) if not self._is_made_early(path)]
        found += foreign_to_objects(self.objects) + self._foreign_beside()
        if found:
            raise StateError(
                f"{self.folder} is not empty, it holds {self.shown(found)}; choose a new or empty "
                "folder for the store"
            )

    def _is_made_early(self, path: Path) -> bool:
        """Return whether an entry of the folder is one that exists before store.toml does."""
        if path in (self.objects, self.index, self.staging):
            return path.is_dir()
        if path == self.database:
            return _is_registry(path)
        mark = path.name.removeprefix(self.database.name)
        is_ours = _TEMPORARY.fullmatch(path.name) or _SQLITE_COMPANION.fullmatch(mark)
        return bool(is_ours) and path.is_file()

    def shown(self, paths: Sequence[Path]) -> str:
        """Return the first few of some paths in the folder, for a message."""
        names = ", ".join(str(path.relative_to(self.folder)) for path in paths[:_NUM_SHOWN])
        num_more = len(paths) - _NUM_SHOWN
        return f"{names} and {num_more} more" if num_more > 0 else names

    def make_folders(self) -> None:
        """Make what is missing, durably."""
        for folder in (self.objects, self.index, self.staging):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)


def _domain_tag(domain: str) -> str:
    """Return what stands for a domain in a file's name, which never holds a user's words."""
    return hashlib.sha256(domain.encode()).hexdigest()[:12]


def _is_of_another(checkpoint: Path, domain: str) -> bool:
    """Return whether a checkpoint is known to be another domain's; older names do not tell."""
    found = _CHECKPOINT.fullmatch(checkpoint.name)
    return found is not None and found["domain"] not in (None, _domain_tag(domain))


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; nothing where there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _named(folder: Path, *patterns: re.Pattern[str]) -> list[Path]:
    """Return the files of a folder whose whole name fits a pattern."""
    return [
        path
        for path in _entries(folder)
        if path.is_file() and any(pattern.fullmatch(path.name) for pattern in patterns)
    ]


def _is_registry(path: Path) -> bool:
    """Return whether a file is a registry, or a database in which nothing was written yet."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError:
        return False
    return not tables or "alembic_version" in tables


def prepare(layout: StoreLayout, config: StoreConfig, who: str) -> Database:
    """Make folders and registry of a new store, all but store.toml, and open the registry.

    What a crashed `create` left behind is used again.

    Raises: StateError: when there is a store already, a registry with content, a user's file, or
        another process makes a store in the same database.
    """
    layout.check_is_free()
    layout.make_folders()
    if config.database_url is not None:
        trust_database(config.database_url)
    database = _database(layout, config)
    try:
        upgrade(database, None)
        with database.writing() as session:
            layout.check_is_free()  # again: another `init` may have finished meanwhile
            _write_first_rows(session, database, config, who)
    except IntegrityError as error:  # PostgreSQL lets both write, and refuses the second's rows
        database.close()
        raise StateError(
            f"another process has just made a store in {database.name}; open that, or choose "
            "another database"
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def finish(layout: StoreLayout, config: StoreConfig, database: Database) -> None:
    """Write store.toml, which makes the folder a store.

    In a transaction: of two that make a store here, the one whose id the registry has goes on.

    Raises: StateError: when the registry was prepared for another store since.
    """
    with database.writing() as session:
        if session.scalar(select(LiveRow.store_id)) != config.store_id:
            raise StateError(
                f"another process makes a store at {layout.folder}; open that, or choose another "
                "folder"
            )
        config.write(layout.config)


def connect(layout: StoreLayout, config: StoreConfig) -> Database:
    """Open the registry of a store and bring it to the newest schema; a read-only one is only read.

    Raises:
        DamageError: when the SQLite file is missing, or is none.
        StoreFormatError: when its revision is newer, or older and it is read-only here.
        StateError: when its database is none that this user has named: see stores.trusted.
        UnsupportedError: when store.toml names a place for objects that no store may have.
    """
    if config.objects_url is not None:
        url_scheme(config.objects_url)  # before a registry is touched for it
    if config.database_url is not None:
        check_trusted(config.database_url, layout.config)
    if config.database_url is None and not layout.database.is_file():
        raise DamageError(f"{layout.database} is missing; restore it from a copy")
    is_read_only = layout.is_read_only
    if not is_read_only:
        layout.make_folders()
    database = _database(layout, config, is_read_only=is_read_only)
    try:
        if database.is_read_only:
            check_current(database)
        else:
            upgrade(database, layout.database if database.is_sqlite else None)
        with database.reading() as session:
            found = session.scalar(select(LiveRow.store_id))
    except BaseException:
        database.close()
        raise
    if found != config.store_id:
        database.close()
        raise DamageError(
            f"{layout.config} is of store {config.store_id}, its registry of store {found}; "
            "restore both from one copy"
        )
    return database


def _database(layout: StoreLayout, config: StoreConfig, *, is_read_only: bool = False) -> Database:
    if config.database_url is not None:
        return url_database(config.database_url)
    if is_read_only:
        return read_only_database(layout.database)
    return sqlite_database(layout.database)


def _write_first_rows(session: Session, database: Database, config: StoreConfig, who: str) -> None:
    """Write the first, empty snapshot, the live pointer and the lease's row."""
    live = session.get(LiveRow, 1)
    if live is not None:
        num_segments = session.scalar(select(func.count()).select_from(SegmentRow))
        num_snapshots = session.scalar(select(func.count()).select_from(SnapshotRow))
        if num_segments or num_snapshots != 1 or not database.is_sqlite:
            raise StateError(
                f"{database.name} holds the registry of store {live.store_id} with "
                f"{num_segments} segments, but no store.toml is here; restore that, or choose "
                "another place"
            )
        live.store_id = config.store_id
        return
    session.add(LeaseRow(id=1))
    first = commit_snapshot(session, [], action="create", who=who, why="")
    session.add(LiveRow(id=1, store_id=config.store_id, snapshot_id=first.id))
