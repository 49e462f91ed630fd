"""Objects: the same bytes come back, or an error; in a folder and at a URL."""

import hashlib

import pytest
from filled_store import grow, new_store
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import DamageError, UnsupportedError
from stores import ObjectStore
from stores.fsck import check


@pytest.fixture(params=["folder", "file", "memory"])
def objects(request, tmp_path):
    if request.param == "folder":
        return ObjectStore(tmp_path / "objects")
    if request.param == "file":
        return ObjectStore((tmp_path / "objects").as_uri())
    return ObjectStore(f"memory://{tmp_path.name}")


def test_bytes_are_named_by_their_hash_and_come_back(objects):
    object_id = objects.put_bytes(b"tensors")
    assert object_id == hashlib.sha256(b"tensors").hexdigest()
    assert objects.put_bytes(b"tensors") == object_id
    assert objects.read(object_id) == b"tensors"
    assert objects.sizes() == {object_id: objects.size(object_id)} == {object_id: 7}
    assert objects.missing([object_id, "0" * 64]) == ["0" * 64]
    assert objects.exists(object_id)
    assert not objects.exists("0" * 64)
    objects.delete(object_id)
    objects.delete(object_id)
    assert objects.sizes() == {}
    with pytest.raises(DamageError, match=f"object {object_id} is missing from"):
        objects.read(object_id)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_come_back(tmp_path_factory, texts):
    objects = ObjectStore(tmp_path_factory.mktemp("objects"))
    ids = objects.put_texts(texts)
    assert [objects.read_text(object_id) for object_id in ids] == texts
    assert set(objects.sizes()) == set(ids)


def test_a_changed_byte_is_found_and_mended_by_the_next_put(tmp_path):
    objects = ObjectStore(tmp_path)
    object_id = objects.put_bytes(b"tensors")
    path = objects.path(object_id)
    path.chmod(0o644)
    path.write_bytes(b"tensorz")
    with pytest.raises(DamageError, match=f"{object_id} .* is damaged: its bytes have sha256"):
        objects.read(object_id)
    objects.put_bytes(b"tensors")
    assert objects.read(object_id) == b"tensors"


def test_bytes_that_are_no_text_are_damage(objects):
    object_id = objects.put_bytes(b"tensors")
    with pytest.raises(DamageError, match="holds no document's text"):
        objects.read_text(object_id)


@pytest.mark.parametrize(
    "url", ["http://host/x", "zip::file:///x.zip", "reference://x", "memory://x::y", "folder"]
)
def test_other_places_are_refused(url):
    with pytest.raises(UnsupportedError, match="cannot keep objects at"):
        ObjectStore(url)


def test_a_file_system_that_is_not_installed_is_named():
    pytest.importorskip("fsspec")
    with pytest.raises(UnsupportedError, match=r"install the file system of gs://"):
        ObjectStore("gs://bucket/knowledge")


def test_a_store_may_keep_its_objects_elsewhere(tmp_path):
    with new_store(tmp_path / "k", objects_url=f"memory://{tmp_path.name}-s") as registry:
        grow(registry, "law")
        document = registry.queries.documents("law")[0]
        assert registry.queries.document_text(document).startswith("law ")
        assert not any((registry.folder / "objects").iterdir())
        assert check(registry) == ()
        registry.remove("law", "ann")
        assert registry.purge("law", "ann").num_objects == 6
        assert set(registry.objects.sizes()) == {registry.config.background_object}
