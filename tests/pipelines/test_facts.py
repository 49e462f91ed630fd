from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.errors import CorpusError
from pipelines.facts import Relation, choose_facts, is_guessable

RELATION = Relation("place", "{subject} lies in", ("The place of {subject} is", "Where? In"))
OTHER = Relation("colour", "{subject} looks", ("The colour of {subject} is", "It looks"))
WORDS = st.text(alphabet="abcdefgh", min_size=3, max_size=8)
PAIRS = st.lists(st.tuples(WORDS, WORDS), max_size=60)


@given(PAIRS, st.integers(1, 4))
def test_chosen_facts_can_be_asked_exactly(pairs, max_same_answer):
    try:
        facts = choose_facts({RELATION: pairs}, num_facts=5, max_same_answer=max_same_answer)
    except CorpusError:
        return
    assert len({fact.subject for fact in facts}) == len(facts) == 5
    assert max(Counter(fact.answer for fact in facts).values()) <= max_same_answer
    for fact in facts:
        assert {answer for subject, answer in pairs if subject == fact.subject} == {fact.answer}
        assert not is_guessable(fact.subject, fact.answer)
        assert fact.statement == f"{fact.seen_prompt} {fact.answer}."


@given(PAIRS, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_source(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    try:
        chosen = choose_facts({RELATION: pairs}, num_facts=3)
    except CorpusError:
        with pytest.raises(CorpusError):
            choose_facts({RELATION: shuffled}, num_facts=3)
        return
    assert choose_facts({RELATION: shuffled}, num_facts=3) == chosen


def test_every_relation_has_an_equal_share():
    pairs = [(f"subject{number}", f"answer{number} place") for number in range(50)]
    facts = choose_facts({RELATION: pairs, OTHER: pairs}, num_facts=21)
    assert Counter(fact.relation for fact in facts) == {"place": 11, "colour": 10}


def test_too_few_facts_are_named():
    with pytest.raises(CorpusError, match=r"'place' has 1 usable facts, wanted 2"):
        choose_facts({RELATION: [("Kiel", "Holstein")]}, num_facts=2)


def test_a_fact_becomes_a_document_to_train_on():
    document = RELATION.fact("Kiel", "Holstein").document("atlas")
    assert (document.text, document.kind) == ("Kiel lies in Holstein.", "fact")
    assert document.source == "atlas"
