"""Where things lie in a store's folder, and how a registry is made and reached there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, StateError
from stores.config import FILE_NAME, StoreConfig
from stores.database import Database, sqlite_database, url_database
from stores.durable import empty_folder, sync_folder
from stores.schema import LeaseRow, LiveRow, SegmentRow, SnapshotRow
from stores.snapshots import commit_snapshot
from stores.upgrades import COPY_MARK, upgrade


@dataclass(frozen=True)
class StoreLayout:
    """The places within a store's folder."""

    folder: Path

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

    @property
    def index(self) -> Path:
        """FAISS files: a cache."""
        return self.folder / "index"

    @property
    def staging(self) -> Path:
        """Work in progress; may be deleted at any time."""
        return self.folder / "staging"

    def old_copies(self) -> list[Path]:
        """Copies of the registry made before migrations."""
        return sorted(self.folder.glob(f"{self.database.name}{COPY_MARK}*"))

    def forget(self) -> None:
        """Remove all that may hold a purged domain's traces: index, staging and old copies."""
        empty_folder(self.index)
        empty_folder(self.staging)
        for copy in self.old_copies():
            copy.unlink()
        sync_folder(self.folder)

    def make_folders(self) -> None:
        """Make what is missing, durably."""
        for folder in (self.objects, self.index, self.staging):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)


def prepare(layout: StoreLayout, config: StoreConfig, who: str) -> Database:
    """Make folders and registry of a new store, all but store.toml, and open the registry.

    What a crashed `create` left behind is used again.

    Raises: StateError: when there is a store already, or a registry with content.
    """
    if layout.config.exists():
        raise StateError(f"there is a store at {layout.folder} already; choose another folder")
    if layout.folder.exists() and not layout.folder.is_dir():
        raise StateError(f"{layout.folder} is a file; choose another folder for the store")
    layout.make_folders()
    database = _database(layout, config)
    try:
        upgrade(database, None)
        with database.writing() as session:
            _write_first_rows(session, database, config, who)
    except BaseException:
        database.close()
        raise
    return database


def connect(layout: StoreLayout, config: StoreConfig) -> Database:
    """Open the registry of a store and bring it to the newest schema.

    Raises:
        DamageError: when the SQLite file is missing, or is none.
        StoreFormatError: when its revision is newer.
    """
    if config.database_url is None and not layout.database.is_file():
        raise DamageError(f"{layout.database} is missing; restore it from a copy")
    layout.make_folders()
    database = _database(layout, config)
    try:
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


def _database(layout: StoreLayout, config: StoreConfig) -> Database:
    if config.database_url is not None:
        return url_database(config.database_url)
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
