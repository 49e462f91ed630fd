"""A store on a disk, or of a user, that lets it be read only."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from peer_cl.errors import StateError, StoreFormatError, StoreLockedError
from stores import Registry


def files(folder):
    """Every file of a store, with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def read_only(monkeypatch):
    """Take the right to write in a folder away, from root too."""

    def take(folder):
        access = os.access

        def may(path, mode, **options):
            is_in = str(path).startswith(str(folder))
            return not (is_in and mode & os.W_OK) and access(path, mode, **options)

        monkeypatch.setattr("os.access", may)
        folder.chmod(0o555)

    return take


def test_a_store_that_cannot_be_written_can_be_read(tmp_path, make, read_only):
    folder = tmp_path / "k"
    with make.store(folder) as registry:
        live = make.grow(registry, "law")
    read_only(folder)
    before = files(folder)
    with Registry.open(folder) as registry:
        assert registry.live() == live
        document = registry.documents("law")[0]
        assert registry.document_text(document) == "law 0 "
        assert registry.history()[0].action == "ingest"
        assert [item.kind for item in registry.doctor()] == ["index missing"]
        for act in (
            lambda: registry.writing("ann").__enter__(),
            lambda: registry.doctor(repair=True),
            lambda: registry.put_evaluation(live.id, {}),
            registry.check_writable,
        ):
            with pytest.raises(StateError, match=f"this store is read-only here: {folder}"):
                act()
    assert files(folder) == before
    folder.chmod(0o755)


def test_what_is_written_meanwhile_is_read_too(tmp_path, make):
    folder = tmp_path / "k"
    with make.store(folder) as writer:
        make.grow(writer, "law")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("os.access", lambda *_, **__: False)
            reader = Registry.open(folder)
        with reader:
            for domain in ("medicine", "minerals"):
                live = make.grow(writer, domain)
                assert reader.live() == live
            writer.close()
            assert reader.live() == live


def test_an_older_registry_that_cannot_be_written_is_refused(tmp_path, make, read_only):
    folder = tmp_path / "k"
    make.store(folder).close()
    with closing(sqlite3.connect(folder / "registry.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0003'")
    read_only(folder)
    with pytest.raises(StoreFormatError, match=r"0003, and 0006 .* open it once where it can be"):
        Registry.open(folder)
    folder.chmod(0o755)


def test_a_log_that_a_crash_left_is_told(tmp_path, make, read_only):
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
        folder = Path(shutil.copytree(tmp_path / "k", tmp_path / "copy"))
    (folder / "registry.sqlite-shm").unlink()
    read_only(folder)
    with pytest.raises(StateError, match=r"-wal was left by a crash, .* open it once where it"):
        Registry.open(folder)
    folder.chmod(0o755)


@pytest.mark.parametrize("how", ["what was read may be half of it", "and looks damaged"])
def test_what_changes_under_a_file_that_is_said_not_to_is_no_damage(tmp_path, make, how):
    folder = tmp_path / "k"
    with make.store(folder) as registry:
        live = make.grow(registry, "law")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.access", lambda *_, **__: False)
        reader = Registry.open(folder)

    def read():
        with reader._database.reading() as session:
            session.execute(text("SELECT 1"))
            with Registry.open(folder) as writer:
                make.grow(writer, "medicine")  # closed, it leaves no log
            if "damaged" in how:
                raise DatabaseError("", {}, Exception("database disk image is malformed"))

    with reader:
        with pytest.raises(StoreLockedError, match=r"was written to while it was read; try again"):
            read()
        assert reader.live().id > live.id
