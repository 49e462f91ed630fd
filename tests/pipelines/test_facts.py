from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.errors import CorpusError
from pipelines.fact_files import check_answers, check_fact
from pipelines.facts import Fact, Relation, choose_facts, is_guessable

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


def test_blanks_around_what_is_said_are_no_part_of_a_fact():
    told = Fact(" Chad ", " capital", " N'Djamena ", "It is N'Djamena.", "It is", ())
    assert told.normalised() == Fact(
        "Chad", "capital", "N'Djamena", "It is N'Djamena.", "It is", ()
    )


@pytest.mark.parametrize(
    ("statement", "answer", "told"),
    [
        ("Lima is in Peru.", "Lima", "does not begin with a prompt"),
        ("The capital is Lima.", "Peru", "the answer does not follow the prompt"),
    ],
)
def test_a_statement_that_does_not_answer_its_prompt_is_no_fact(statement, answer, told):
    with pytest.raises(CorpusError, match=told):
        check_fact(Fact("Peru", "capital", answer, statement, "The capital is", ()))


def test_a_statement_teaches_one_answer():
    said = "Kim has badge 7 and works in Lima."
    badge = Fact("Kim", "badge", "7", said, "Kim has badge", ("Kim's badge:",))
    check_answers([badge, replace(badge, reworded_prompts=())])
    with pytest.raises(CorpusError, match=r"facts\[1\] answers 'Lima' after .* answers '7' after"):
        check_answers([badge, replace(badge, answer="Lima", seen_prompt=said[:-6])])
