"""What the registry answers, each in a fixed number of statements."""

from dataclasses import replace

import numpy as np
import pytest
from filled_store import LOSSES, grow, sha
from sqlalchemy import event

from peer_cl.errors import StateError, UnknownError, UnsupportedError
from stores import NewScore
from stores.fsck import check


def version(registry, domain):
    return registry.queries.live().state(domain).version


def test_a_segment_is_read_as_it_was_written(registry):
    first, second = registry.queries.chain(version(registry, "law"))
    assert (first.label, second.label, second.parent_id) == ("v1", "v2", first.id)
    assert (first.snapshot_id, second.snapshot_id) == (2, 4)
    assert second.losses == tuple(LOSSES)
    assert (second.config, second.seconds, second.host_layers) == ({"seed": 0}, 1.5, (0, 2))
    assert not second.is_purged
    with pytest.raises(UnknownError, match="no version"):
        registry.queries.chain("f" * 32)


def test_a_version_is_named_by_label_id_or_prefix(registry):
    full = version(registry, "law")
    for text in ("v2", full, full[:8]):
        assert len(registry.queries.documents("law", version=text)) == 6
    with pytest.raises(UnknownError, match="known: v1, v2"):
        registry.queries.documents("law", version=full[:3])


def test_summaries_count_each_document_once(registry):
    law, medicine = registry.queries.domains()
    assert (law.domain, law.label, law.num_segments, law.num_documents) == ("law", "v2", 2, 6)
    assert (law.num_texts, law.num_facts, law.num_held_out) == (2, 1, 2)
    assert (law.num_tokens, law.num_experts) == (40, 4096)
    assert (medicine.num_texts, medicine.num_facts, medicine.num_held_out) == (2, 0, 1)
    detail = registry.queries.domain("law")
    assert [event.action for event in detail.events] == ["ingest", "ingest"]
    # One that was held out counts as learned once it is learned, and still once.
    held_out = registry.queries.documents("medicine", split="test")[0]
    text = registry.queries.document_text(held_out)
    grow(registry, "medicine", texts=[text])
    medicine = registry.queries.domains()[1]
    assert (medicine.num_documents, medicine.num_texts, medicine.num_held_out) == (3, 3, 0)


def test_objects_have_a_kind_and_a_number_and_none_waits_to_be_trained(empty):
    shared = {f"shared.{n}": empty.objects.put_bytes(bytes([n])) for n in (0, 2, 10)}
    grow(empty, "law", objects=shared | {"shared.1": None, "shared.11": None})
    grow(empty, "medicine")
    assert empty.queries.pending(["law", "medicine", "minerals"]) == ("law",)
    assert empty.queries.pending(["medicine"]) == ()
    (segment,) = empty.queries.chain(version(empty, "law"))
    assert segment.pending_shards == (1, 11)
    ids = {0: shared["shared.0"], 2: shared["shared.2"], 10: shared["shared.10"]}
    assert segment.objects_of("shared") == ids
    assert segment.objects_of("facts") == {}
    assert check(empty) == ()  # what waits is not missing
    empty.remove("law", "ann")
    assert empty.queries.pending(["law"]) == ()


def test_documents_are_found_by_version_split_and_kind(registry):
    documents = registry.queries.documents("law")
    assert [one.segment_id for one in documents[:3]] == [documents[0].segment_id] * 3
    assert len(registry.queries.documents("law", version="v1")) == 3
    assert [one.kind for one in registry.queries.documents("law", kind="fact")] == ["fact"]
    questions = registry.queries.documents("law", kind="question", split="test")
    assert [one.kind for one in questions] == ["question"]
    registry.remove("law", "ann")
    with pytest.raises(StateError, match="was removed; `peer-cl restore law`"):
        registry.queries.documents("law")
    assert len(registry.queries.documents("law", version="v2")) == 6


def test_a_document_has_a_place_in_each_segment_that_holds_it(empty):
    grow(empty, "law", texts=["shared", "law alone"])
    grow(empty, "medicine", texts=["shared"])
    empty.remove("law", "ann")
    places = empty.queries.places(sha("shared")[:8].upper())
    assert [(p.document.domain, p.label, p.snapshot_id, p.is_live) for p in places] == [
        ("law", "v1", 2, False),
        ("medicine", "v1", 3, True),
    ]
    for text, why in (("zz", "none begins so"), (sha("shared")[:5], "give its id")):
        with pytest.raises(UnknownError, match=why):
            empty.queries.places(text)


def test_texts_that_are_not_kept_are_not_there(registry):
    document = replace(registry.queries.documents("law")[0], text_object=None)
    with pytest.raises(UnsupportedError, match="keep_text = false"):
        registry.queries.document_text(document)


def test_ancestry_follows_what_was_live(registry):
    registry.roll_back(2, "ann")
    assert [one.id for one in registry.queries.ancestry(5)] == [1, 2, 3, 4, 5]
    assert [one.id for one in registry.queries.snapshots()] == [1, 2, 3, 4, 5]
    with pytest.raises(UnknownError, match="no snapshot 6"):
        registry.queries.ancestry(6)
    with pytest.raises(UnknownError, match="no snapshot"):
        registry.queries.snapshot(2**70)


def test_scores_are_written_once(registry):
    for log_probs in ([-1.5, -np.inf], [-9.0]):
        new = NewScore(subject="base", document_key="1" * 64, log_probs=np.array(log_probs))
        registry.put_scores([new])
    (found,) = registry.queries.scores("base", ["1" * 64, "2" * 64]).values()
    assert found.log_probs.tolist() == [-1.5, -np.inf]
    assert (found.is_found, found.is_found_by_half) == (None, None)


def test_evaluations_along_the_line(registry):
    registry.put_evaluation(2, {"figure": 1})
    registry.put_evaluation(4, {"figure": 2})
    registry.put_evaluation(4, {"figure": 3})
    assert registry.queries.evaluation(3) is None
    assert [one.report["figure"] for one in registry.queries.evaluations(4)] == [1, 3]
    with pytest.raises(UnknownError, match="no snapshot 9"):
        registry.queries.evaluation(9)


def test_the_number_of_statements_does_not_grow_with_the_store(empty):
    statements = []
    engine = empty.database.engine
    event.listen(engine, "before_cursor_execute", lambda *about: statements.append(about[2]))

    def count():
        statements.clear()
        queries = empty.queries
        for ask in (
            queries.domains,
            lambda: queries.pending(["law", "medicine"]),
            queries.snapshots,
            queries.events,
            lambda: queries.domain("law"),
            lambda: queries.documents("law"),
            lambda: queries.places(queries.documents("law")[0].document_id),
            lambda: queries.evaluations(queries.live().id),
        ):
            ask()
        return len(statements)

    for _ in range(2):
        grow(empty, "law")
    few = count()
    for _ in range(3):
        grow(empty, "law")
        grow(empty, "medicine")
        empty.put_evaluation(empty.queries.live().id, {})
    assert count() == few
