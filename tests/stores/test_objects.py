import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.durable import replace_file
from peer_cl.errors import DamageError, InputError, UnsupportedError
from stores import ObjectStore, compress_text, decompress_text, put_texts


@pytest.fixture(params=["folder", "file-url", "memory"])
def objects(request, tmp_path):
    places = {
        "folder": tmp_path / "objects",
        "file-url": f"file://{tmp_path}/objects",
        "memory": f"memory://{tmp_path.name}/objects",
    }
    return ObjectStore(places[request.param], tmp_path / "staging")


def test_an_object_is_named_by_its_hash_and_read_back(objects, tmp_path):
    for data in (b"", b"x", bytes(range(256)) * 9000):
        object_id = objects.put_bytes(data)
        assert object_id == hashlib.sha256(data).hexdigest()
        assert objects.read(object_id) == data
        assert objects.size(object_id) == len(data)
        (tmp_path / "file").write_bytes(data)
        assert objects.put_file(tmp_path / "file") == object_id
        path = objects.path(object_id)
        assert (path is None) == objects.place.startswith("memory:")
        assert path is None or path.read_bytes() == data
    assert len(list(objects.ids())) == 3
    assert list((tmp_path / "staging").iterdir()) == []


def test_put_many_equals_putting_one_by_one(objects):
    blobs = [b"a", b"b", b"a", b"c"]
    ids = objects.put_many(blobs)
    assert ids == [objects.put_bytes(blob) for blob in blobs]
    assert sorted(set(ids)) == list(objects.ids())
    unknown = "0" * 64
    assert objects.missing([*ids, unknown]) == {unknown}
    many = [f"{number:064x}" for number in range(20)]
    assert objects.missing([*ids, *many]) == set(many)


def test_an_object_that_is_there_already_is_made_durable_too(tmp_path, monkeypatch):
    store = ObjectStore(tmp_path / "objects", tmp_path / "staging")
    store.put_many([b"put by one that died before it synced"])
    synced = []
    monkeypatch.setattr("stores.objects.sync_folder", synced.append)
    object_id = store.put_bytes(b"put by one that died before it synced")
    assert synced == [tmp_path / "objects" / object_id[:2], tmp_path / "objects"]


@pytest.fixture
def steps(monkeypatch):
    """What is synced and what is renamed from now on, in order: (verb, path it is about)."""
    done = []
    fsync, replace = os.fsync, os.replace

    def syncing(descriptor):
        fsync(descriptor)
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def renaming(source, target, **options):
        replace(source, target, **options)
        done.append(("rename", Path(target)))

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    return done


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and macOS syncs otherwise")


@linux
@pytest.mark.parametrize("is_there", [True, False], ids=["old folder", "new folder"])
@pytest.mark.parametrize("put", ["one", "many"])
def test_bytes_are_durable_before_their_name_and_the_name_before_put_returns(
    tmp_path, steps, put, is_there
):
    """Whoever made an object's folder may have died before that was durable."""
    folder, staging = tmp_path / "objects", tmp_path / "staging"
    place = folder / hashlib.sha256(b"x").hexdigest()[:2]
    if is_there:
        place.mkdir(parents=True)
    store = ObjectStore(folder, staging)
    (object_id,) = store.put_many([b"x"]) if put == "many" else [store.put_bytes(b"x")]
    assert [verb for verb, _ in steps] == ["sync", "rename", "sync", "sync"]
    assert [path for _, path in steps[1:]] == [place / object_id, place, folder]
    assert steps[0][1].parent == staging
    path = store.path(object_id)
    assert path.stat().st_mode & 0o222 == 0, "no program writes into it by mistake"
    steps.clear()
    assert store.delete(object_id)
    assert steps == [("sync", place)]


@linux
def test_a_file_is_replaced_by_durable_bytes_and_durably(tmp_path, steps):
    replace_file(tmp_path / "store.toml", b"old")
    replace_file(tmp_path / "store.toml", b"new")
    assert (tmp_path / "store.toml").read_bytes() == b"new"
    assert [verb for verb, _ in steps] == ["sync", "rename", "sync"] * 2
    assert [path for _, path in steps[1:3]] == [tmp_path / "store.toml", tmp_path]
    assert steps[0][1].parent == tmp_path


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "store.toml").mkdir()
    with pytest.raises(OSError, match=r"store\.toml"):
        replace_file(tmp_path / "store.toml", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["store.toml"]


def test_delete_says_whether_it_was_there(objects):
    object_id = objects.put_bytes(b"gone")
    assert objects.delete(object_id) is True
    assert objects.delete(object_id) is False
    assert not objects.exists(object_id)
    with pytest.raises(DamageError, match=f"{object_id} is missing"):
        objects.read(object_id)


@settings(max_examples=25, deadline=None)
@given(position=st.integers(0, 999), mask=st.integers(1, 255))
def test_any_flipped_byte_is_seen_and_healed_by_the_next_put(tmp_path_factory, position, mask):
    folder = tmp_path_factory.mktemp("objects")
    objects = ObjectStore(folder / "objects", folder / "staging")
    data = bytes(range(250)) * 4
    object_id = objects.put_bytes(data)
    path = objects.path(object_id)
    spoiled = bytearray(data)
    spoiled[position] ^= mask
    path.chmod(0o644)
    path.write_bytes(spoiled)
    found = hashlib.sha256(spoiled).hexdigest()
    for act in (objects.read, objects.path, objects.verify):
        with pytest.raises(DamageError, match=f"{object_id}.*{found}"):
            act(object_id)
    assert objects.put_bytes(data) == object_id
    assert objects.read(object_id) == data


@pytest.mark.parametrize("elsewhere", ["old", "old/{id:.2}", "{id:.2}/old"])
def test_an_object_that_was_moved_within_the_bucket_is_not_there(tmp_path, elsewhere):
    import fsspec

    root = f"/{tmp_path.name}/{elsewhere[:3]}"
    objects = ObjectStore(f"memory:/{root}", tmp_path / "staging")
    moved, stays = objects.put_many([b"moved", b"stays"])
    files = fsspec.filesystem("memory")
    files.mv(f"{root}/{moved[:2]}/{moved}", f"{root}/{elsewhere.format(id=moved)}/{moved}")
    assert not objects.exists(moved)
    assert list(objects.ids()) == [stays]
    assert objects.sizes([moved, stays]) == {stays: 5}
    many = {f"{number:064x}" for number in range(20)}
    assert objects.missing([moved, stays, *many]) == {moved, *many}
    assert objects.put_bytes(b"moved") == moved
    assert set(objects.ids()) == {moved, stays}


def test_a_truncated_remote_object_is_seen(tmp_path):
    import fsspec

    objects = ObjectStore(f"memory://{tmp_path.name}/t", tmp_path / "staging")
    object_id = objects.put_bytes(b"whole")
    files = fsspec.filesystem("memory")
    (name,) = files.find(f"/{tmp_path.name}/t")
    files.pipe_file(name, b"who")
    with pytest.raises(DamageError, match="is damaged"):
        objects.read(object_id)
    objects.put_bytes(b"whole")
    assert objects.read(object_id) == b"whole"


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "a/" * 32, None, 7]
)
def test_only_a_hash_may_name_an_object(objects, name):
    for act in (objects.read, objects.path, objects.exists, objects.delete, objects.size):
        with pytest.raises(InputError, match="not an object's id"):
            act(name)


def test_an_unknown_protocol_is_one_line(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot reach objects at nowhere://x"):
        ObjectStore("nowhere://x", tmp_path)


FULL_DISK = """
import resource, sys
from pathlib import Path
from stores import ObjectStore
folder = Path(sys.argv[1])
objects = ObjectStore(folder / "objects", folder / "staging")
small = objects.put_bytes(b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    objects.put_bytes(b"x" * 100_000)
except OSError:
    kept = objects.read(small) == b"small" and list(objects.ids()) == [small]
    sys.exit(0 if kept and not list((folder / "staging").iterdir()) else 3)
sys.exit(4)
"""


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=False)
    assert done.returncode == 0


@given(st.text())
def test_texts_survive_compression(text):
    assert decompress_text(compress_text(text)) == text


def test_a_text_object_that_is_none_is_named(objects):
    with pytest.raises(DamageError, match="no document's text"):
        decompress_text(b"not zstandard")
    ids = put_texts(objects, ["one", "two", "one"])
    assert ids[0] == ids[2] != ids[1]
    assert decompress_text(objects.read(ids[1])) == "two"


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = ObjectStore(Path("notes:law"), Path("staging"))
    object_id = objects.put_bytes(b"pool")
    assert objects.path(object_id) == Path("notes:law") / object_id[:2] / object_id
    assert objects.path(object_id).read_bytes() == b"pool"
