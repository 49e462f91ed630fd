import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import DamageError
from stores import NewJob, purging
from stores.durable import CHUNK_BYTES


@settings(max_examples=20, deadline=None)
@given(offset=st.integers(CHUNK_BYTES - 70, CHUNK_BYTES + 5), around=st.sampled_from(" f0-"))
def test_an_id_is_found_wherever_it_stands(tmp_path_factory, offset, around):
    wanted, other = "ab" * 32, "cd" * 32
    path = tmp_path_factory.mktemp("raw") / "file"
    path.write_bytes(around.encode() * offset + wanted.encode() + around.encode() * 99)
    assert purging.find_traces(path, {wanted.encode(), other.encode()}) == [wanted]
    assert purging.find_traces(path, {other.encode()}) == []


def test_a_purge_that_leaves_traces_says_so(registry, make):
    make.grow(registry, "law")
    kept = registry.documents("law")[0].document_id
    (registry.folder / "registry.sqlite.copy").write_text(kept)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match=f"left 1 traces .{kept} in registry.sqlite.copy"):
            registry.purge("law", "ann")


def test_a_purge_that_cannot_delete_an_object_says_so(registry, make, monkeypatch):
    make.grow(registry, "law")
    monkeypatch.setattr(registry.objects, "delete", lambda object_id: False)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match="left 5 traces"):
            registry.purge("law", "ann")


def test_a_purge_leaves_what_other_domains_have_under_way(registry, make):
    make.grow(registry, "law")
    layout = registry.layout
    mine, others = (layout.checkpoint(name, "0f" * 32) for name in ("law", "medicine"))
    upload = layout.upload("d" * 64, ".txt")
    for path in (mine, others, upload):
        path.write_bytes(b"hours of work")
    request = {"corpus": {"upload": upload.name, "name": "notes.txt"}}
    job = registry.jobs.add(NewJob(kind="ingest", domain="medicine", request=request, who="ann"))
    registry.jobs.end(job.id, "failed", error="the disk is full")
    assert layout.foreign() == []
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert set(layout.staging.iterdir()) == {others, upload}
