import os
import shutil
import sqlite3
from contextlib import closing, nullcontext

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from peer_cl.errors import DamageError, StateError, StoreFormatError
from stores import NewJob, Registry, chains, documents, scores, upgrades
from stores.database import sqlite_database
from stores.schema import Base

ADDS_A_COLUMN = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0007", "0006"

def upgrade():
    with op.batch_alter_table("domains") as table:
        table.add_column(sa.Column("colour", sa.String(9), server_default="blue"))
        table.alter_column("name", type_=sa.String(80))
"""

FIRST_ROWS = (
    "INSERT INTO domains VALUES (1, 'law', '')",
    f"INSERT INTO runs VALUES ('{'b' * 32}', '{{}}', '[]', '', 1.0)",
    f"INSERT INTO segments VALUES ('{'a' * 32}', 1, NULL, 1, 'v1', '{'b' * 32}', '{'c' * 64}', "
    f"'{'d' * 64}', '[3]', 64, 100, 10, '', NULL)",
    f"INSERT INTO documents VALUES ('{'e' * 64}', 10, '')",
    f"INSERT INTO segment_documents VALUES ('{'a' * 32}', '{'e' * 64}', 0, 'T', 's', 'train', "
    f"'text', '{'e' * 64}', NULL)",
    f"INSERT INTO scores VALUES ('base', '{'e' * 64}', x'0000', 1, '')",
)
BREAKS_KEYS = ADDS_A_COLUMN + '    op.execute("DELETE FROM domains")\n'
FAILS_HALF_WAY = ADDS_A_COLUMN + '    op.execute("SELECT nothing FROM nowhere")\n'


@pytest.fixture
def newer(tmp_path):
    """Return a function that makes the migrations of a future version."""

    def write(source):
        folder = tmp_path / "future"
        shutil.copytree(upgrades.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "0007_future.py").write_text(source)
        return folder

    return write


@pytest.fixture
def store(make, tmp_path):
    """The folder of a store with one domain, closed."""
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    return registry.layout


def rows(path):
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        return {
            name: connection.execute(f'SELECT * FROM "{name}"').fetchall()
            for (name,) in tables
            if not name.startswith("sqlite_")
        }
    finally:
        connection.close()


def test_the_migrations_make_exactly_the_tables_of_the_schema(store):
    database = sqlite_database(store.database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()
    assert ScriptDirectory(str(upgrades.MIGRATIONS)).get_heads() == [upgrades.HEAD]


def test_the_pragmas_hold_in_every_connection(store):
    database = sqlite_database(store.database)
    for _ in range(2):
        with database.engine.connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "secure_delete": 1,
        }
        database.engine.dispose()


def test_an_older_registry_is_copied_and_brought_forward(store, newer):
    before = rows(store.database)
    database = sqlite_database(store.database)
    options = {"head": "0007", "migrations": newer(ADDS_A_COLUMN)}
    assert upgrades.upgrade(database, store.database, **options) is True
    assert upgrades.revision(database) == "0007"
    assert upgrades.upgrade(database, store.database, **options) is False
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()
    after = rows(store.database)
    assert [(*row, "blue") for row in before["domains"]] == after["domains"]
    for name in set(before) - {"domains", "alembic_version"}:
        assert before[name] == after[name], name
    (copy,) = store.old_copies()
    assert copy.name == "registry.sqlite.before-0007"
    assert rows(copy) == before


@pytest.mark.parametrize(
    ("source", "error"), [(BREAKS_KEYS, DamageError), (FAILS_HALF_WAY, Exception)]
)
def test_a_migration_that_fails_changes_nothing(store, newer, source, error):
    before = rows(store.database)
    database = sqlite_database(store.database)
    with pytest.raises(error):
        upgrades.upgrade(database, store.database, head="0007", migrations=newer(source))
    database.close()
    assert rows(store.database) == before
    assert store.old_copies() == []
    Registry.open(store.folder).close()


def test_the_copy_of_before_is_kept_when_two_bring_it_forward(store, newer, monkeypatch):
    before, copied = rows(store.database), upgrades.copy_sqlite
    options = {"head": "0007", "migrations": newer(ADDS_A_COLUMN)}

    def other_is_quicker(*args):
        monkeypatch.setattr(upgrades, "copy_sqlite", copied)
        other = sqlite_database(store.database)
        assert upgrades.upgrade(other, store.database, **options)
        other.close()
        return copied(*args)

    monkeypatch.setattr(upgrades, "copy_sqlite", other_is_quicker)
    database = sqlite_database(store.database)
    upgrades.upgrade(database, store.database, **options)
    database.close()
    (copy,) = store.old_copies()
    assert rows(copy) == before


def test_an_older_copy_is_left_alone(store):
    older = store.folder / "registry.sqlite.before-0006"
    older.write_bytes(b"of before a backup was put back")
    for name in ("registry.sqlite.before-0006.2", "registry.sqlite.before-0006.3"):
        copy = upgrades.copy_sqlite(store.database, older, "0006")
        assert copy == store.folder / name
        assert rows(copy) == rows(store.database)
    assert older.read_bytes() == b"of before a backup was put back"
    (store.folder / f"{older.name}.{'0a' * 16}.part").write_bytes(b"of one that was killed")
    assert len(store.old_copies()) == 4


def test_a_newer_registry_is_refused_and_left_alone(store, newer):
    database = sqlite_database(store.database)
    upgrades.upgrade(database, None, head="0007", migrations=newer(ADDS_A_COLUMN))
    database.close()
    before = rows(store.database)
    with pytest.raises(StoreFormatError, match="has revision 0007; this version knows up to 0006"):
        Registry.open(store.folder)
    assert rows(store.database) == before
    assert store.old_copies() == []


def test_a_store_of_the_first_schema_is_brought_forward(tmp_path):
    path = tmp_path / "registry.sqlite"
    first = tmp_path / "first"
    later = shutil.ignore_patterns("__pycache__", "0002*", "0003*", "0004*", "0005*", "0006*")
    shutil.copytree(upgrades.MIGRATIONS, first, ignore=later)
    database = sqlite_database(path)
    upgrades.upgrade(database, None, head="0001", migrations=first)
    with database.engine.begin() as connection:
        for statement in FIRST_ROWS:
            connection.exec_driver_sql(statement)
    assert upgrades.upgrade(database, path) is True
    with database.reading() as session:
        (segment,) = chains.read_chain(session, "a" * 32)
        (document,) = documents.read_documents(session, [segment.id])
        assert (segment.kind, segment.use_object) == ("rows", None)
        assert (document.section_of, document.base_nats, document.nats) == (None, None, None)
        assert scores.read_scores(session, "base", ["e" * 64]) == {}
    database.close()


def test_a_store_without_jobs_is_brought_forward(store):
    before = rows(store.database)
    connection = sqlite3.connect(store.database)
    with connection:
        connection.execute("DROP TABLE jobs")
        connection.execute("DROP TABLE erased_documents")
        connection.execute("ALTER TABLE live DROP COLUMN salt")
        connection.execute("ALTER TABLE live DROP COLUMN claim")
        connection.execute("ALTER TABLE live DROP COLUMN claim_before")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    connection.close()
    with Registry.open(store.folder) as registry:
        assert registry.jobs.listed() == ()
        job = registry.jobs.add(NewJob(kind="evaluate", domain=None, request={"a": 1}, who="ann"))
        assert registry.jobs.find(job.id).state == "waiting"
        registry.jobs.end(job.id, "cancelled")
    after = rows(store.database)
    for name in set(before) - {"jobs"}:
        assert before[name] == after[name], name
    (copy,) = store.old_copies()
    assert copy.name == "registry.sqlite.before-0006"
    assert "jobs" not in rows(copy)


def test_jobs_stay_as_they_were_when_erasing_becomes_one(tmp_path):
    path = tmp_path / "registry.sqlite"
    older = tmp_path / "older"
    later = shutil.ignore_patterns("__pycache__", "0005*", "0006*")
    shutil.copytree(upgrades.MIGRATIONS, older, ignore=later)
    database = sqlite_database(path)
    upgrades.upgrade(database, None, head="0004", migrations=older)
    insert = (
        "INSERT INTO jobs (id, kind, request, who, why, state, host, born, created_at, "
        "heartbeat, what, done, total, note, since, done_at_first, losses) VALUES "
        "('{id}', '{kind}', '{{}}', 'ann', 'why', '{state}', '', '', '2026', "
        "0, '', 1, 2, '', 0, 0, '[]')"
    )
    with database.engine.begin() as connection:
        connection.exec_driver_sql(insert.format(id="a" * 32, kind="ingest", state="done"))
        with pytest.raises(IntegrityError, match="ck_jobs_kind"):
            connection.exec_driver_sql(insert.format(id="b" * 32, kind="erase", state="done"))
    before = rows(path)["jobs"]
    assert upgrades.upgrade(database, path) is True
    assert rows(path)["jobs"] == before
    for kind, state, broken in (
        ("erase", "done", None),
        ("dance", "done", "ck_jobs_kind"),
        ("erase", "tired", "ck_jobs_state"),
    ):
        expected = nullcontext() if broken is None else pytest.raises(IntegrityError, match=broken)
        with expected, database.engine.begin() as connection:
            connection.exec_driver_sql(insert.format(id="c" * 32, kind=kind, state=state))
    indexes = {found["name"] for found in inspect(database.engine).get_indexes("jobs")}
    assert indexes == {"ix_jobs_domain", "ix_jobs_state", "ix_jobs_created_at"}
    database.close()


def test_what_older_versions_erased_exactly_is_on_the_list(make, tmp_path):
    with make.store(tmp_path / "k") as registry, registry.writing("ann"):
        make.grow(registry, "law")
        make.grow(registry, "law", salt="2")
        full = registry.live()
        first, last = registry.chain(full.state("law").version)
        mask = make.mask(registry, "law", last.id)
        registry.regrow("law", last.id, last.id, [mask], "ann")
        left = make.segment(registry, "law", first.id, texts=["law 1 2"])
        registry.regrow("law", mask.segment_id, first.id, [left], "ann")
        again = make.segment(registry, "law", left.segment_id, texts=["law 0 2"])
        registry.add_segment(again, "ann")
    database = registry.layout.database
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("DROP TABLE erased_documents")
        connection.execute("ALTER TABLE live DROP COLUMN salt")
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.close()
    with Registry.open(tmp_path / "k") as registry, registry.writing("ann"):
        ids = {number: make.sha(f"law {number} 2") for number in range(3)}
        assert registry.erased.among("law", ids.values()) == {ids[2]}, "0 was learned again"
        with pytest.raises(StateError, match="--with-erased"):
            registry.roll_back(full.id, "ann")
        registry.roll_back_domain("law", left.segment_id, "ann")
        assert registry.erased.among("law", ids.values()) == {ids[0], ids[2]}


# --- the copy of before ---------------------------------------------------------------------------


def test_a_copy_that_is_damaged_stops_the_migration(store, newer):
    with closing(sqlite3.connect(store.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil_index(store.database)
    before = store.database.read_bytes()
    with closing(sqlite_database(store.database)) as database:
        with pytest.raises(DamageError, match=r"the copy of .* is damaged .*nothing was changed"):
            upgrades.upgrade(database, store.database, head="0007", migrations=newer(ADDS_A_COLUMN))
        assert upgrades.revision(database) == "0006"
    assert store.database.read_bytes() == before
    assert store.old_copies() == []


def spoil_index(path):
    """Empty an index behind SQLite's back: rows are read as ever, and only its check sees it."""
    with closing(sqlite3.connect(path)) as database:
        wanted = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'segments'"
        (page, *_) = [root for (root,) in database.execute(wanted)]
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("rb+") as file:
        file.seek((page - 1) * size)
        content = bytearray(file.read(size))
        content[3:5] = (0).to_bytes(2, "big")  # how many cells the page has
        file.seek((page - 1) * size)
        file.write(content)


def test_a_copy_is_on_the_disk_before_it_has_its_name(store, monkeypatch):
    target, synced = store.folder / "registry.sqlite.before-0007", []
    sync = upgrades.sync_descriptor

    def look(descriptor):
        synced.append((os.fstat(descriptor).st_ino, target.exists()))
        sync(descriptor)

    monkeypatch.setattr(upgrades, "sync_descriptor", look)
    copy = upgrades.copy_sqlite(store.database, target, "0006")
    assert synced == [(copy.stat().st_ino, False)]


def test_a_copy_for_which_there_is_no_room_is_told_and_changes_nothing(store, monkeypatch):
    connect = sqlite3.connect

    def small(path, **options):
        opened = connect(path, **options)
        if str(path).endswith(".part"):
            opened.execute("PRAGMA max_page_count = 2")  # SQLite's own full disk
        return opened

    monkeypatch.setattr(upgrades.sqlite3, "connect", small)
    target = store.folder / "registry.sqlite.before-0007"
    before = sorted(store.folder.iterdir())
    with pytest.raises(StateError, match=r"could not be \(.*full.*\); nothing was changed"):
        upgrades.copy_sqlite(store.database, target, "0006")
    assert sorted(store.folder.iterdir()) == before
