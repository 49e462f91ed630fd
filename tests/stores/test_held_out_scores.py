"""What the base and a version make of held-out documents, and which snapshots were evaluated."""

import sqlite3

import numpy as np
import pytest
from sqlalchemy.dialects import sqlite

from peer_cl.errors import DamageError, UnknownError
from stores import NewScore, scores

TOKENS = np.array([-1.0, -2.5])


def score(subject, key, document_id, values=TOKENS):
    array = np.asarray(values, "<f8")
    return NewScore(
        subject=subject,
        document_key=key,
        document_id=document_id,
        values=array.tobytes(),
        num_tokens=len(array),
    )


@pytest.fixture
def scored(registry, make):
    """Two domains, each of whose versions scored the held-out document of both."""
    made = {name: make.segment(registry, name) for name in ("law", "medicine")}
    with registry.writing("ann"):
        for segment in made.values():
            registry.add_segment(segment, "ann")
    new = [score("base", make.sha("foreign"), None)]
    for owner, segment in made.items():
        held_out = segment.documents[2].document_id
        new.append(score("base", make.sha(f"{owner} tokens"), held_out))
        for number, other in enumerate(made.values()):
            key = other.segment_id
            new += [
                score(key, make.sha(f"{owner} tokens"), held_out, TOKENS / (number + 2)),
                score(key, make.sha(f"{owner} ask"), held_out, [0.1, 0.2, 0.3, 0.4]),
                score(key, make.sha("foreign"), None),
            ]
        new.append(score(segment.segment_id, make.sha("learned"), segment.documents[0].document_id))
    registry.put_scores(new)
    return made


def test_a_version_s_own_held_out_documents_come_with_both_scores(registry, scored):
    for number, (name, segment) in enumerate(scored.items()):
        (found,) = registry.held_out_scores(segment.segment_id)
        document = segment.documents[2]
        assert (found.document_id, found.title) == (document.document_id, document.title)
        assert found.source == f"{name}.txt"
        assert found.base_log_probs.tolist() == TOKENS.tolist()
        assert found.log_probs.tolist() == (TOKENS / (number + 2)).tolist()


def test_what_other_versions_make_of_the_same_documents_comes_along(registry, make, scored):
    law, medicine = (scored[name].segment_id for name in ("law", "medicine"))
    (found,) = registry.held_out_scores(law, [law, medicine])
    assert found.asked_log_probs.tolist() == [(TOKENS / 2).tolist(), (TOKENS / 3).tolist()]
    (found,) = registry.held_out_scores(law, [law, "f" * 32])
    assert found.asked_log_probs is None, "one of them did not score it"
    (found,) = registry.held_out_scores(law)
    assert found.asked_log_probs is None, "none were wanted"
    (found,) = registry.held_out_scores(law, [])
    assert found.asked_log_probs.shape == (0, len(TOKENS)), "nobody is asked"


def test_documents_of_the_whole_chain_are_found(registry, make, scored):
    older = scored["law"]
    grown = make.segment(registry, "law", older.segment_id, texts=["one", "two", "three"])
    with registry.writing("ann"):
        registry.add_segment(grown, "ann")
    held_out = [older.documents[2].document_id, grown.documents[2].document_id]
    registry.put_scores(
        [
            score("base", make.sha("three tokens"), held_out[1]),
            *(
                score(grown.segment_id, make.sha(f"{what} tokens"), document_id)
                for what, document_id in zip(("law", "three"), held_out, strict=True)
            ),
        ]
    )
    found = registry.held_out_scores(grown.segment_id)
    assert {item.document_id for item in found} == set(held_out)


def test_what_a_live_version_learned_is_no_unseen_text(registry, make, scored):
    law, medicine = (scored[name].segment_id for name in ("law", "medicine"))
    (held_out,) = registry.held_out_scores(law, live=[law, medicine])
    grown = make.segment(registry, "medicine", medicine, texts=["law 2 "])
    assert grown.documents[0].document_id == held_out.document_id
    with registry.writing("ann"):
        registry.add_segment(grown, "ann")
    assert grown.documents[0].split == "train"
    assert registry.held_out_scores(law, live=[law, grown.segment_id]) == ()
    assert len(registry.held_out_scores(law, live=[law, medicine])) == 1


def test_what_was_not_scored_is_not_there(registry, make):
    make.grow(registry, "law")
    assert registry.held_out_scores(registry.live().state("law").version) == ()
    with pytest.raises(UnknownError, match="no version"):
        registry.held_out_scores("f" * 32)


def test_scores_of_other_tokens_are_damage(registry, make, scored):
    version = scored["law"].segment_id
    with sqlite3.connect(registry.folder / "registry.sqlite") as database:
        database.execute("UPDATE scores SET \"values\" = x'00' WHERE subject = ?", (version,))
    database.close()
    with pytest.raises(DamageError, match="peer-cl doctor"):
        registry.held_out_scores(version)


def test_the_question_is_answered_by_indexes(registry, scored):
    version = scored["law"].segment_id
    compiled = scores.held_out_query(version, [version]).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    with registry._database.engine.connect() as connection:
        steps = [
            step.detail
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
        ]
    searched = [step for step in steps if "TEMP B-TREE" not in step]
    assert len(searched) == 3
    assert all(step.startswith("SEARCH") for step in searched), steps
    assert any("(subject=? AND document_key=?)" in step for step in searched), steps


def test_evaluated_snapshots_are_listed_the_newest_first(registry, make):
    assert registry.evaluated() == ()
    make.grow(registry, "law")
    for snapshot_id in (1, 2):
        registry.put_evaluation(snapshot_id, {"snapshot": snapshot_id})
    newest, oldest = registry.evaluated()
    assert (newest.snapshot_id, oldest.snapshot_id) == (2, 1)
    assert newest.evaluated_at >= oldest.evaluated_at


def test_a_report_that_is_no_json_is_damage(registry):
    registry.put_evaluation(1, {"snapshot": 1})
    with sqlite3.connect(registry.folder / "registry.sqlite") as database:
        database.execute("UPDATE evaluations SET report = '{'")
    database.close()
    with pytest.raises(DamageError, match="evaluation of snapshot 1 cannot be read"):
        registry.evaluation(1)


def test_a_documents_scores_take_other_keys_and_nobody_elses_do(registry, make, scored):
    law, medicine = (scored[name].segment_id for name in ("law", "medicine"))
    held_out = scored["law"].documents[2].document_id
    old, new, free = (make.sha(name) for name in ("law tokens", "law's own", "never stored"))
    registry.put_scores([score(medicine, new, None, [-9.0, -9.0])])
    renamed = {held_out: {old: new, free: old}, make.sha("nobody"): {old: free}}
    assert registry.rename_scores(renamed) == 1
    assert set(registry.scores("base", [old, new])) == {new}
    assert set(registry.scores(law, [old, new])) == {new}
    # Of this version one was there by the new key, and stays.
    known = registry.scores(medicine, [old, new])
    assert np.frombuffer(known[new]).tolist() == [-9.0, -9.0]
    assert np.frombuffer(known[old]).tolist() == (TOKENS / 3).tolist()
    (found,) = registry.held_out_scores(law)
    assert found.log_probs.tolist() == (TOKENS / 2).tolist()
    foreign = make.sha("foreign")
    assert registry.rename_scores({held_out: {foreign: free}}) == 0
    assert set(registry.scores("base", [foreign])) == {foreign}
