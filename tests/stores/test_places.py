"""Other places for a store's objects and registry are looked at before anything is put there."""

import uuid

import pytest

from peer_cl.errors import InputError, StateError, UnsupportedError
from stores import ObjectStore
from stores.places import check_database_url, check_objects_url


@pytest.mark.parametrize("url", ["objects", "/absolute/folder", "C:/x", "file://x/y", "file:", ""])
def test_objects_need_a_url(url, tmp_path):
    with pytest.raises(InputError, match="objects lie at a URL such as"):
        check_objects_url(url, tmp_path)


def test_a_file_system_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot reach objects at nowhere://x"):
        check_objects_url("nowhere://x", tmp_path)


def test_objects_want_an_empty_place(tmp_path):
    """A purge deletes there whatever no row of its store names."""
    memory = f"memory://{uuid.uuid4().hex}"
    check_objects_url(memory, tmp_path)
    ObjectStore(memory, tmp_path / "staging").put_bytes(b"of another store")
    with pytest.raises(StateError, match="1 files lie at memory:"):
        check_objects_url(memory, tmp_path)
    place = tmp_path / "objects"
    for _ in ("new", "empty"):
        check_objects_url(f"file://{place}", tmp_path / "knowledge")
        place.mkdir(exist_ok=True)
    (place / "notes.txt").write_text("a user's")
    with pytest.raises(StateError, match="is not an empty folder"):
        check_objects_url(f"file://{place}", tmp_path)


def test_objects_want_the_disk_of_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("stores.places._device", lambda path: path.name == "objects")
    with pytest.raises(StateError, match="on another disk than"):
        check_objects_url(f"file://{tmp_path}/objects", tmp_path)


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann:secret@host/name", "postgresql://ann@host/name?password=secret"],
)
def test_no_password_comes_into_the_store(url, tmp_path):
    with pytest.raises(InputError, match="plain text: leave it to PGPASSFILE") as told:
        check_database_url(url)
    with pytest.raises(InputError, match="plain text"):
        check_objects_url("sftp://ann:secret@host/name", tmp_path)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("url", ["sqlite:///x", "not a url", "", "postgresql://ann@host:port/name"])
def test_a_registry_lives_in_postgresql(url):
    with pytest.raises(InputError):
        check_database_url(url)


def test_a_driver_that_is_not_there_is_named_as_a_package_index_has_it(monkeypatch):
    def create_engine(*_, **__):
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr("stores.database.create_engine", create_engine)
    with pytest.raises(UnsupportedError, match=r'psycopg.\): pip install "psycopg\[binary\]"'):
        check_database_url("postgresql://ann@host/name")


def test_a_server_that_is_not_there_is_named():
    # Without its driver it is that which is told.
    with pytest.raises((StateError, UnsupportedError), match=r"cannot be used|needs a driver"):
        check_database_url("postgresql://ann@127.0.0.1:1/name")
