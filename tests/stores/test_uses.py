import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.dialects import sqlite

from peer_cl.errors import DamageError, InputError
from stores import NewScore, NewUse, Registry, uses
from stores.packing import pack, unpack
from stores.schema import SegmentDocumentRow


def new_use(host_layer, hits):
    """Return a use made of {(document, row): weight}."""
    pairs = np.array(list(hits), dtype=np.int64).reshape(-1, 2)
    weights = np.array(list(hits.values()), dtype=np.float64)
    return NewUse(host_layer=host_layer, documents=pairs[:, 0], rows=pairs[:, 1], weights=weights)


HITS = {3: {(0, 7): 1.5, (0, 2): 0.5, (1, 7): 4.5}, 9: {(1, 900): 3.0, (0, 900): 1.0}}


@pytest.fixture
def used(registry, make):
    """A domain whose two training documents use rows of layers 3 and 9."""
    segment = make.segment(registry, "law", uses=[new_use(n, hits) for n, hits in HITS.items()])
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
    return segment


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_packed_arrays_are_read_back_to_three_digits(found):
    ids = np.array(sorted(found))
    weights = np.array([found[key] for key in sorted(found)])
    shares = weights / weights.sum()
    again, near = unpack(pack(ids, shares))
    assert again.tolist() == ids.tolist()
    np.testing.assert_allclose(near, shares, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("data", [b"", b"no zstandard", pack(np.array([5]), np.array([1.0]))[:-2]])
def test_damaged_arrays_are_told(data):
    with pytest.raises(DamageError, match="packed array of uses"):
        unpack(data)


def test_a_document_leads_to_its_rows(registry, used):
    first, second, held_out = used.documents
    found = registry.document_uses(first.document_id, [used.segment_id])
    assert [(u.host_layer, u.rows.tolist()) for u in found] == [(3, [2, 7]), (9, [900])]
    np.testing.assert_allclose(found[0].weights, [0.5, 1.5], rtol=1e-3)
    (low, _) = registry.document_uses(second.document_id, [used.segment_id])
    assert low.rows.tolist() == [7]
    assert registry.document_uses(held_out.document_id, [used.segment_id]) == ()


def test_a_row_leads_to_its_documents_the_largest_share_first(registry, used):
    first, second, _ = used.documents
    rows = {3: [7, 5, 2], 9: [900]}
    seven_two, seven, wide = registry.held_documents(used.segment_id, rows)
    assert (seven_two.use.row, seven_two.use.num_documents) == (2, 1)
    assert seven_two.use.effective_documents == pytest.approx(1.0)
    assert [d.document_id for d in seven.documents] == [second.document_id, first.document_id]
    assert seven.shares == pytest.approx((0.75, 0.25), rel=1e-3)
    assert seven.documents[0].title == second.title
    assert (seven.use.weight, seven.use.num_documents) == (6.0, 2)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert wide.use.effective_documents == pytest.approx(np.exp(entropy), rel=1e-3)


def test_others_write_while_uses_are_packed(registry, make, monkeypatch):
    score = NewScore(subject="base", document_key="a" * 64, values=bytes(8), num_tokens=1)
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)

    def pack_beside_another(ids, shares):
        with Registry.open(registry.folder) as other:
            other.put_scores([score])
        return pack(ids, shares)

    monkeypatch.setattr(uses, "pack", pack_beside_another)
    make.grow(registry, "law", uses=[new_use(n, hits) for n, hits in HITS.items()])
    assert registry.scores("base", [score.document_key])


MANY = {
    3: {(0, 7): 1.5, (0, 2): 0.5, (1, 7): 4.5, (2, 5): 1.0, (3, 5): 2.0},
    9: {(1, 90): 3.0, (2, 90): 1.0, (2, 8): 2.0, (3, 8): 0.25},
}


def rarities():
    """Return how rare each (layer, row) of MANY is among four documents, by the definition."""
    found = {}
    for layer, hits in MANY.items():
        for row in {row for _, row in hits}:
            weights = np.array([weight for (_, other), weight in hits.items() if other == row])
            shares = weights / weights.sum()
            found[layer, row] = np.log(4 / np.exp(-(shares * np.log(shares)).sum()))
    return found


def cosine(one, other):
    """Return the cosine of two vectors over rows, each weight times the row's rarity."""
    rare = rarities()
    first, second = (
        np.array([vector.get(place, 0.0) * rare[place] for place in rare])
        for vector in (one, other)
    )
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def test_documents_are_ranked_by_the_angle_to_what_a_text_asks(registry, make):
    texts = [f"law {number}" for number in range(4)]
    told = [new_use(layer, hits) for layer, hits in MANY.items()]
    segment = make.segment(registry, "law", texts=texts, uses=told)
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
    rows = {
        number: {
            (layer, row): weight
            for layer, hits in MANY.items()
            for (document, row), weight in hits.items()
            if document == number
        }
        for number in range(4)
    }
    for asked in (rows[1], {(3, 7): 1.0, (9, 90): 0.1}, {(3, 5): 0.5, (9, 8): 3.0, (3, 2): 1.0}):
        by_layer = {layer: {r: w for (n, r), w in asked.items() if n == layer} for layer in MANY}
        found = registry.rank_documents(segment.segment_id, by_layer, 4).best
        scores = {document.document_id: score for document, score in found}
        expected = {make.sha(texts[n]): cosine(own, asked) for n, own in rows.items()}
        assert scores == pytest.approx({k: s for k, s in expected.items() if s > 0}, abs=2e-3)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert registry.rank_documents(segment.segment_id, by_layer, 1).best == found[:1]


def test_the_use_of_all_rows_is_read_without_the_arrays(registry, used):
    found = registry.expert_uses([used.segment_id])
    assert [(u.host_layer, u.row, u.num_documents) for u in found] == [
        (3, 2, 1),
        (3, 7, 2),
        (9, 900, 2),
    ]


@pytest.mark.parametrize(
    ("hits", "message"),
    [
        ({(3, 0): 1.0}, "uses name document 3 of 3"),
        ({(0, 0): 0.0}, "must be positive"),
        ({(0, 0): float("nan")}, "must be positive"),
    ],
)
def test_uses_that_cannot_be_are_refused(registry, make, hits, message):
    with pytest.raises(InputError, match=message):
        make.segment(registry, "law", uses=[new_use(3, hits)])


def test_a_layer_in_which_no_row_fired_has_no_uses(registry, make):
    segment = make.segment(registry, "law", uses=[new_use(3, {}), new_use(9, HITS[9])])
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
    ids = [segment.segment_id]
    assert {use.host_layer for use in registry.expert_uses(ids)} == {9}
    (use,) = registry.document_uses(segment.documents[0].document_id, ids)
    assert use.host_layer == 9


def test_a_purge_takes_the_uses_along(registry, make, used):
    make.grow(registry, "medicine", uses=[new_use(3, HITS[3])])
    kept = registry.live().state("medicine").version
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert registry.expert_uses([used.segment_id]) == ()
    assert registry.document_uses(used.documents[0].document_id, [used.segment_id]) == ()
    assert len(registry.expert_uses([kept])) == 2


def test_the_queries_use_their_keys(registry, used):
    first = used.documents[0].document_id
    queries = {
        "document to rows": uses.document_uses_query(first, [used.segment_id]),
        "row to documents": uses.expert_uses_query(used.segment_id, 3, [7, 2]),
        "positions to documents": uses.held_documents_query(used.segment_id, [0, 1]),
    }
    plans = {}
    with registry._database.engine.connect() as connection:
        for name, query in queries.items():
            compiled = query.compile(
                dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
            )
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
            plans[name] = [step.detail for step in steps]
    assert all(
        step.startswith(("SEARCH", "LIST SUBQUERY")) for plan in plans.values() for step in plan
    ), plans
    assert "(segment_id=? AND document_id=?)" in plans["document to rows"][0]
    assert "(segment_id=? AND host_layer=? AND row=?)" in plans["row to documents"][0]
    assert "(segment_id=? AND position=?)" in plans["positions to documents"][0]


@pytest.mark.parametrize("is_of_before", [False, True])
def test_a_document_that_was_learned_alone_is_found_by_its_rows(registry, make, is_of_before):
    segment = make.segment(
        registry, "law", texts=["alone"], uses=[new_use(3, {(0, 7): 3, (0, 2): 4})]
    )
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
    if is_of_before:  # rows that all documents use said nothing, one document's too
        with registry._database.writing() as session:
            session.execute(update(SegmentDocumentRow).values(use_norm=0.0))
    found = registry.rank_documents(segment.segment_id, {3: {7: 4.0, 2: 3.0}}, 5).best
    assert [document.document_id for document, _ in found] == [make.sha("alone")]
    assert found[0][1] == pytest.approx(24 / 25, abs=2e-3)
