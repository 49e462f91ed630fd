"""The record of use: read from either side it says the same, and it is what was recorded."""

from dataclasses import replace

import numpy as np
import pytest
from filled_store import grow, new_segment, sha
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import DamageError
from stores import NewUse
from stores.uses import pack, rarity, unpack


@settings(max_examples=50, deadline=None)
@given(
    ids=st.lists(st.integers(0, 2**32 - 1), unique=True).map(sorted),
    raw=st.data(),
)
def test_packed_arrays_come_back(ids, raw):
    weights = np.array([raw.draw(st.floats(0.01, 1)) for _ in ids])
    shares = weights / weights.sum() if ids else weights
    found, parts = unpack(pack(np.array(ids, np.int64), shares))
    assert found.tolist() == ids
    np.testing.assert_allclose(parts, shares, rtol=1e-3, atol=1e-6)


def test_other_bytes_are_damage():
    with pytest.raises(DamageError, match="the record of use is damaged"):
        unpack(b"nothing")


DENSE = np.array([[2.0, 0, 1, 0], [0, 3, 1, 0], [0, 0, 1, 0]])  # documents by experts


@pytest.fixture
def segment(empty):
    documents, experts = np.nonzero(DENSE)
    use = NewUse(
        host_layer=2, documents=documents, experts=experts, weights=DENSE[documents, experts]
    )
    new = new_segment(empty, "law", texts=["a", "b", "c", "held out"], uses=[use])
    empty.add_segment(new, "ann")
    return empty, new.segment_id


def test_the_record_reads_the_same_from_both_sides(segment):
    registry, segment_id = segment
    from_documents = np.zeros_like(DENSE)
    for row, text in enumerate("abc"):
        for use in registry.uses.document_uses(sha(text), [segment_id]):
            from_documents[row, use.experts] = use.weights
    np.testing.assert_allclose(from_documents, DENSE, rtol=1e-3)

    from_experts = np.zeros_like(DENSE)
    for held in registry.uses.held_by(segment_id, {2: [0, 1, 2, 3], 9: [1]}):
        for document, share in zip(held.documents, held.shares, strict=True):
            row = "abc".index({sha(t): t for t in "abc"}[document.document_id])
            from_experts[row, held.use.expert] = share * held.use.weight
    np.testing.assert_allclose(from_experts, DENSE, rtol=1e-3)

    uses = {use.expert: use for use in registry.uses.expert_uses([segment_id])}
    assert {expert: use.num_documents for expert, use in uses.items()} == {0: 1, 1: 1, 2: 3}
    assert uses[2].effective_documents == pytest.approx(3)
    assert registry.uses.num_learned(segment_id) == 3


def test_documents_are_ranked_by_the_cosine(segment):
    registry, segment_id = segment
    rare = np.array([rarity(3, 1), rarity(3, 1), rarity(3, 3), 0])
    text = np.array([1.0, 2.0, 5.0, 1.0])
    vectors, query = DENSE * rare, text * rare
    lengths = np.linalg.norm(vectors, axis=1)
    expected = vectors[:2] @ query / (lengths[:2] * np.linalg.norm(query))

    found = registry.uses.rank_documents(segment_id, {2: dict(enumerate(text))}, 5)

    assert [document.document_id for document, _ in found.best[:2]] == [sha("b"), sha("a")]
    scores = [score for _, score in found.best[:2]]
    np.testing.assert_allclose(scores, sorted(expected, reverse=True), rtol=1e-3)

    assert registry.uses.rank_documents(segment_id, {2: {3: 1.0}}, 5).best == ()


def test_a_segment_may_have_the_record_of_another(segment):
    """Its texts are the same; what it lost lies behind them."""
    registry, older = segment
    texts = ["a", "b", "c"]
    new = new_segment(registry, "law", texts=texts, uses=(), uses_of=older)
    registry.replace_segments("law", older, None, [new], [], "ann")

    def record(segment_id):
        uses = registry.uses
        found = uses.rank_documents(segment_id, {2: {0: 1.0, 2: 1.0}}, 5)
        return (
            [replace(use, segment_id="") for use in uses.expert_uses([segment_id])],
            [
                [(use.host_layer, use.experts.tolist(), use.weights.tolist()) for use in some]
                for some in (uses.document_uses(sha(text), [segment_id]) for text in texts)
            ],
            [(held.documents, held.shares) for held in uses.held_by(segment_id, {2: range(4)})],
            uses.num_learned(segment_id),
            (found.best, found.scores.tolist()),
        )

    assert record(new.segment_id) == record(older)
    assert record(older)[3] == 3


def test_a_document_that_was_learned_alone_is_found(empty):
    grow(empty, "law", texts=["only"])
    segment_id = empty.queries.live().state("law").version
    ((document, score),) = empty.uses.rank_documents(segment_id, {0: {7: 1.0}}, 3).best
    assert document.document_id == sha("only")
    assert 0 < score <= 1
