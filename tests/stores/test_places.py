"""Other places for a store's objects and registry are looked at before anything is put there."""

import json
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from peer_cl.errors import InputError, StateError, UnsupportedError
from stores import ObjectStore, Registry
from stores.places import check_database_url, check_objects_url


@pytest.mark.parametrize("url", ["objects", "/absolute/folder", "C:/x", "file://x/y", "file:", ""])
def test_objects_need_a_url(url, tmp_path):
    with pytest.raises(InputError, match="objects lie at a URL such as"):
        check_objects_url(url, tmp_path)


def test_a_file_system_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot reach objects at nowhere://x"):
        check_objects_url("nowhere://x", tmp_path)


CHAINS_AND_OTHERS = [
    "reference::/tmp/ref.json",
    "s3://bucket/name::memory://x",
    "file:///objects::x",
    "simplecache::memory://x",
    "http://127.0.0.1:9/objects",
    "https://example.org/objects",
    "github://ann@host/objects",
    "zip:///objects.zip",
    "REFERENCE://x",
    "h\nttp://127.0.0.1:9/objects",
    "memory:x",
]


@pytest.mark.parametrize("url", CHAINS_AND_OTHERS)
def test_objects_lie_at_urls_of_few_kinds(url, tmp_path, make, monkeypatch):
    """Whoever writes store.toml chooses the URL; fsspec would run a template or fetch a page."""

    def no_file_system(*_, **__):
        pytest.fail("fsspec was asked")

    monkeypatch.setattr("fsspec.core.url_to_fs", no_file_system)
    told = r"(?s)objects at .*: a store's objects lie at .*, file; choose another place, or none"
    with pytest.raises(UnsupportedError, match=told):
        check_objects_url(url, tmp_path)
    with pytest.raises(UnsupportedError, match="plain URL of one of s3, s3a, gs"):
        ObjectStore(url, tmp_path / "staging")
    make.store(tmp_path / "k").close()
    with (tmp_path / "k" / "store.toml").open("ab") as file:
        file.write(f"objects_url = {json.dumps(url)}\n".encode())
    monkeypatch.setattr("stores.layout.upgrade", lambda *_: pytest.fail("the registry was used"))
    with pytest.raises(UnsupportedError, match="write that into the store"):
        Registry.open(tmp_path / "k")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("objects#1", "has '#1' after the folder .*/objects; leave it out"),
        ("objects?version=1", r"has '\?version=1' after the folder .*/objects; leave it out"),
        ("objects#", "has '#' after the folder .*/objects; leave it out"),
        ("my%20objects", "may mean .*/my objects or .*/my%20objects; write .* as it is named"),
    ],
)
def test_a_folders_url_that_may_mean_two_folders_is_refused(tmp_path, make, name, match):
    url = f"file://{tmp_path}/{name}"
    with pytest.raises(InputError, match=f"the objects' URL .*{match}"):
        check_objects_url(url, tmp_path)
    with pytest.raises(InputError, match=match):
        ObjectStore(url, tmp_path / "staging")
    make.store(tmp_path / "k").close()
    with (tmp_path / "k" / "store.toml").open("a") as file:
        file.write(f"objects_url = {json.dumps(url)}\n")
    with pytest.raises(InputError, match=match):
        Registry.open(tmp_path / "k")


@pytest.mark.parametrize("name", ["100% law", "my objects", "Gesetze ü", "a+b;c=d"])
def test_a_folders_url_is_the_path_as_it_is_written(tmp_path, name):
    url = f"file://{tmp_path}/{name}"
    check_objects_url(url, tmp_path)
    objects = ObjectStore(url, tmp_path / "staging")
    assert objects.path(objects.put_bytes(b"pool")).parents[1] == tmp_path / name


def test_a_url_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputError, match=r"the objects' URL 's3://\[x' cannot be read"):
        ObjectStore("s3://[x", tmp_path)
    with pytest.raises(InputError, match="objects lie at a URL such as"):
        check_objects_url("s3://[x", tmp_path)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path, monkeypatch):
    """A place for objects in which nothing lies."""
    monkeypatch.setattr("stores.places.MEMORY", None)  # within one process it is as a bucket
    return {
        "memory": f"memory://{uuid.uuid4().hex}/objects",
        "file": f"file://{tmp_path}/elsewhere",
    }[request.param]


TAKEN = r"[34] files lie at memory:.* choose an empty|is not an empty folder; choose"


def test_what_an_interrupted_init_put_is_taken_up_again(url, tmp_path):
    objects = ObjectStore(url, tmp_path / "staging")
    for data in (b"background", b"ordinary text"):
        check_objects_url(url, tmp_path)
        objects.put_bytes(data)
    check_objects_url(url, tmp_path)
    objects.put_bytes(b"what a domain learned")
    with pytest.raises(StateError, match=TAKEN):
        check_objects_url(url, tmp_path)


def test_the_objects_of_a_store_that_was_never_written_to_are_no_leftovers(url, make, tmp_path):
    make.store(tmp_path / "k", objects_url=url).close()
    objects = ObjectStore(url, tmp_path / "staging")
    objects.put_bytes(b"ordinary text")
    assert len(objects.listed()) == 2
    with pytest.raises(StateError, match=TAKEN):
        check_objects_url(url, tmp_path)


def test_no_store_is_made_in_the_memory_of_a_process(tmp_path):
    told = "memory://x is gone when this process ends, and the store with it; choose another place"
    with pytest.raises(InputError, match=told):
        check_objects_url("memory://x", tmp_path)


def test_objects_want_an_empty_place(tmp_path, monkeypatch):
    """A purge deletes there whatever no row of its store names."""
    monkeypatch.setattr("stores.places.MEMORY", None)  # within one process it is as a bucket
    memory = f"memory://{uuid.uuid4().hex}"
    check_objects_url(memory, tmp_path)
    MemoryFileSystem().pipe_file(f"{memory.removeprefix('memory:/')}/notes.txt", b"a user's")
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
    monkeypatch.setattr("stores.places.disk_of", lambda path: path.name == "objects")
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
