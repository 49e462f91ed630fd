"""A quick look at what the live snapshot needs."""

import pytest

from peer_cl.errors import InputError
from stores import ObjectStore


def object_path(registry, object_id):
    return registry.layout.objects / object_id[:2] / object_id


def replace(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture
def whole(make, registry):
    """A registry with law at v1, whose size is written down right."""
    pool = registry.objects.put_bytes(b"the pool of law")
    make.grow(registry, "law", pool_object=pool, size_bytes=15)
    return registry


def test_nothing_is_wrong_with_a_whole_store(whole):
    assert whole.glance() == ()


@pytest.mark.parametrize("what", ["pool", "signature"])
def test_a_missing_object_is_named_with_what_it_is(whole, what):
    segment = whole.domain("law").chain[0]
    object_id = getattr(segment, f"{what}_object")
    object_path(whole, object_id).unlink()
    (found,) = whole.glance()
    assert (found.kind, found.severity) == ("object missing", "error")
    assert f"the {what} of law v1 is missing (object {object_id})" in found.what


def test_missing_ordinary_text_is_named(make, tmp_path):
    folder, lost = tmp_path / "knowledge", make.sha("how ordinary text begins")
    with make.store(folder, ordinary_object=lost) as registry:
        (found,) = registry.glance()
    assert found.what == f"the ordinary text is missing (object {lost})"


@pytest.mark.parametrize("data", [b"", b"the pool", b"the pool of law and more"])
def test_a_pool_of_another_size_is_damaged(whole, data):
    segment = whole.domain("law").chain[0]
    replace(object_path(whole, segment.pool_object), data)
    (found,) = whole.glance()
    assert found.kind == "object damaged"
    assert f"it has {len(data)} bytes, not 15" in found.what


def test_lost_texts_are_counted_by_domain(whole):
    texts = [item.text_object for item in whole.documents("law")]
    object_path(whole, texts[0]).unlink()
    replace(object_path(whole, texts[1]), b"")
    (found,) = whole.glance()
    assert found.what == "2 of the texts of law are missing or empty"


def test_what_only_older_snapshots_need_is_not_looked_at(whole):
    segment = whole.domain("law").chain[0]
    with whole.writing("ann"):
        whole.roll_back_domain("law", None, "ann")
    object_path(whole, segment.pool_object).unlink()
    assert whole.glance() == ()


@pytest.mark.parametrize("place", ["local", "remote"])
def test_sizes_are_those_of_the_objects_that_are_there(tmp_path, place):
    where = {"local": tmp_path / "objects", "remote": f"memory://{tmp_path.name}/sizes"}[place]
    objects = ObjectStore(where, tmp_path / "staging")
    assert objects.sizes(["0" * 64]) == {}
    there = objects.put_bytes(b"twelve bytes")
    assert objects.sizes([there, "0" * 64]) == {there: 12}
    with pytest.raises(InputError):
        objects.sizes(["../../etc/passwd"])
