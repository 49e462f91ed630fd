"""Purge: bytes are deleted, shared ones stay, and a killed purge is finished by the next."""

import pytest
from filled_store import grow, portrait, score

from peer_cl.errors import StateError, UnknownError
from stores import NewScore
from stores.fsck import check


@pytest.fixture
def removed(registry):
    """Law is removed; its documents were scored, and two snapshots evaluated."""
    score(registry, "law", ["base", registry.queries.live().state("law").version])
    score(registry, "medicine", ["base"])
    for snapshot_id in (1, 4):
        registry.put_evaluation(snapshot_id, {"quotes": "a text"})
    registry.remove("law", "ann")
    return registry


def test_nothing_of_a_purged_domain_is_left(removed):
    documents = removed.queries.documents("law", version="v2")
    run_id = removed.start_run("ingest", "law", "ann")
    removed.update_run(run_id, "reading", 1, 2, "About v1", [(1, 2.0)])
    removed.end_run(run_id, "failed", error="About v1 is bad")
    (removed.staging / "run-1.ckpt").write_text("x")
    assert removed.queries.purgeable("law") == ("v1", "v2")

    result = removed.purge("law", "bob", "asked for")

    assert (result.num_segments, result.num_documents) == (2, 6)
    assert (result.num_objects, result.num_shared_objects) == (12, 0)
    assert result.snapshots == (2, 3, 4)
    event = removed.queries.events(1)[0]
    assert (event.action, event.domain, event.message) == ("purge", "law", "asked for")
    for path in removed.folder.glob("registry.sqlite*"):
        data = path.read_bytes()
        for document in documents:
            assert document.document_id.encode() not in data
            assert document.title.encode() not in data
        assert b"About v1" not in data
    assert list(removed.staging.iterdir()) == []
    for document in documents:
        assert not removed.objects.exists(document.text_object)
        with pytest.raises(UnknownError, match="no document"):
            removed.queries.places(document.document_id)
    assert removed.queries.evaluation(4) is None
    assert removed.queries.evaluation(1).report == {"quotes": "a text"}
    assert len(removed.queries.documents("medicine")) == 3
    assert removed.queries.domain("law").summary.is_purged
    assert check(removed) == ()


def test_a_live_domain_is_not_purged(registry):
    before = portrait(registry)
    with pytest.raises(StateError, match="peer-cl remove law"):
        registry.purge("law", "ann")
    with pytest.raises(UnknownError, match="no domain 'lav'"):
        registry.purge("lav", "ann")
    assert portrait(registry) == before


def test_a_purged_version_does_not_come_back(removed):
    removed.purge("law", "ann")
    with pytest.raises(StateError, match="law was purged"):
        removed.restore("law", "ann")
    with pytest.raises(StateError, match=r"holds purged versions \(law\); .*--without-purged"):
        removed.roll_back(4, "ann")
    with pytest.raises(StateError, match="holds what is live already"):
        removed.roll_back(4, "ann", without_purged=True)
    removed.remove("medicine", "ann")
    found = removed.roll_back(4, "ann", without_purged=True)
    assert [state.domain for state in found.domains] == ["medicine"]
    with pytest.raises(StateError, match="it was purged; ingest it again"):
        removed.queries.check_active("law")
    assert grow(removed, "law").state("law").label == "v3"


def test_what_is_retired_is_purged_of_a_live_domain(registry):
    registry.roll_back_domain("law", "v1", "ann")
    assert registry.queries.purgeable("law", retired=True) == ("v2",)
    result = registry.purge("law", "ann", retired=True)
    assert (result.num_segments, result.num_documents, result.num_objects) == (1, 3, 6)
    assert registry.queries.live().state("law").label == "v1"
    assert registry.queries.purged_versions() == {registry.queries.domain("law").versions[1].id}
    assert check(registry) == ()
    registry.remove("law", "ann")
    with pytest.raises(StateError, match="all of it is retired"):
        registry.purge("law", "ann", retired=True)
    registry.restore("law", "ann")


def test_what_another_domain_holds_stays(empty):
    grow(empty, "law", texts=["shared", "law alone"])
    grow(empty, "medicine", texts=["shared", "medicine alone"])
    empty.remove("law", "ann")
    result = empty.purge("law", "ann")
    assert (result.num_documents, result.num_shared_objects) == (1, 1)
    texts = [empty.queries.document_text(one) for one in empty.queries.documents("medicine")]
    assert texts == ["shared", "medicine alone"]


def test_a_killed_purge_is_finished_by_the_next(removed):
    """Killed after its transaction: rows are gone, and files are left that nothing names."""
    before = [removed.objects.read(object_id) for object_id in removed.objects.sizes()]
    removed.purge("law", "ann")
    for data in before:
        removed.objects.put_bytes(data)
    assert [finding.kind for finding in check(removed)] == ["leftover"]
    result = removed.purge("law", "ann")
    assert (result.num_segments, result.num_objects) == (0, 12)
    assert check(removed) == ()


def test_a_reader_that_keeps_old_pages_alive_is_named(removed):
    with removed.database.reading() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM segment_documents").all()
        with pytest.raises(StateError, match="a reader keeps deleted rows"):
            removed.purge("law", "ann")
    removed.purge("law", "ann")


def test_nothing_is_written_about_a_purged_version(removed):
    version = removed.queries.domain("law").versions[0].id
    documents = removed.queries.documents("law", version="v1", split="test")
    score_of = [documents[0].document_id]
    removed.purge("law", "ann")
    before = removed.queries.scores("base", score_of)
    with pytest.raises(StateError, match="purged meanwhile; evaluate again"):
        removed.put_evaluation(4, {})
    for subject, document_id in ((version, None), ("base", score_of[0])):
        new = NewScore(
            subject=subject, document_key="1" * 64, log_probs=[-1.0], document_id=document_id
        )
        with pytest.raises(StateError, match="purged meanwhile"):
            removed.put_scores([new])
    assert removed.queries.scores("base", score_of) == before
