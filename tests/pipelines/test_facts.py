import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.errors import CorpusError
from pipelines.demo_corpora.choosing import choose_facts, is_guessable
from pipelines.facts import Fact, Relation, checked_fact, checked_facts, read_facts

PLACE = Relation("place", "{subject} lies in", ("The place of {subject} is", "Where? In"))
BADGE = Fact("Kim", "badge", "7", "Kim has badge 7 in Lima.", "Kim has badge", ("Kim's badge:",))
ROW = {
    "subject": "Chad",
    "relation": "capital",
    "answer": "N'Djamena",
    "statement": "The capital of Chad is N'Djamena.",
}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines))
    return path


def test_a_fact_is_one_document_to_learn_and_one_to_ask():
    fact = PLACE.fact("Kiel", "Holstein")
    document, question = fact.document("atlas"), fact.question_document("atlas")
    assert (document.text, document.kind) == ("Kiel lies in Holstein.", "fact")
    assert (document.document_id, question.kind) == (fact.document_id, "question")
    assert Fact.from_question(question.text) == fact


@pytest.mark.parametrize(
    ("statement", "answer", "prompt", "asked"),
    [
        ("Kim has badge 7.", "7", "Kim's badge:", "Kim's badge: 7"),
        ("Kim has badge #7.", "7", "Kim's badge:", "Kim's badge: 7"),
        ("Kim has badge #7.", "7", "Kim's is #", "Kim's is #7"),
        ("乍得的首都是恩贾梅纳。", "恩贾梅纳", "乍得政府位于", "乍得政府位于恩贾梅纳"),
    ],
)
def test_an_answer_follows_a_prompt_as_its_script_has_it(statement, answer, prompt, asked):
    taught = statement[: statement.rfind(answer)].strip()
    fact = Fact("Kim", "badge", answer, statement, taught, (prompt,))
    assert fact.answered(prompt) == asked
    assert statement.startswith(fact.answered(taught))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statement": "Lima has badge 7."}, "does not begin with its taught_prompt"),
        ({"answer": "8"}, "in which the answer '8' does not follow 'Kim has badge'"),
        ({"subject": " "}, 'has no text in its "subject"'),
        ({"paraphrase_prompts": ("a", " ")}, 'no text in its "paraphrase_prompts"'),
        ({"paraphrase_prompts": ("\udfff",)}, "half a character .* in its paraphrase_prompts"),
    ],
)
def test_a_fact_that_cannot_be_learned_and_asked_is_refused(change, message):
    with pytest.raises(CorpusError, match=message):
        checked_fact(replace(BADGE, **change))


def test_facts_of_one_statement_are_one_and_no_paraphrase_teaches_another():
    other = replace(BADGE, subject=" Kim", paraphrase_prompts=("Which badge?",))
    (fact,) = checked_facts([BADGE, other])
    assert fact.paraphrase_prompts == ("Kim's badge:", "Which badge?")
    with pytest.raises(CorpusError, match="answer '7' and 'Lima': give each its own statement"):
        checked_facts([BADGE, replace(BADGE, answer="Lima", taught_prompt="Kim has badge 7 in")])
    other = PLACE.fact("Kiel", "Holstein")
    with pytest.raises(CorpusError, match="'Kim HAS badge:', which teaches a fact"):
        checked_facts([BADGE, replace(other, paraphrase_prompts=("Kim HAS badge: ",))])


def test_a_file_of_facts_needs_four_fields(tmp_path):
    others = {"id": 7, "taught_prompt": None, "paraphrase_prompts": None}
    given = {"taught_prompt": " The capital of Chad is ", "paraphrase_prompts": ["Chad has "]}
    path = write(tmp_path / "facts.jsonl", ROW | others, "", ROW | given)
    (first, second), skipped = read_facts(path)
    assert (first.taught_prompt, first.paraphrase_prompts) == ("The capital of Chad is", ())
    assert second == replace(first, paraphrase_prompts=("Chad has",))
    assert skipped == ()


@pytest.mark.parametrize(
    ("subject", "answer", "statement", "prompt"),
    [
        ("Kim", "7", "Kim has badge 7 since 1997.", "Kim has badge"),
        ("Norway", "Norway", "Norway is Norway.", "Norway is"),
        ("東京", "日本", "東京は日本の首都です。", "東京は"),
        ("Oslo", "Norway", "In Norway, Oslo is Norway's.", "In Norway, Oslo is"),
    ],
)
def test_the_answer_is_found_as_a_word_behind_its_subject(
    tmp_path, subject, answer, statement, prompt
):
    row = {"subject": subject, "relation": "r", "answer": answer, "statement": statement}
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", row))
    assert fact.taught_prompt == prompt


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "is no JSON"),
        (ROW | {"answer": " "}, 'has no text in "answer"'),
        (ROW | {"subject": 7}, 'has no text in "subject"'),
        (ROW | {"answer": "Lagos"}, 'has no text in its "taught_prompt"'),
        (ROW | {"statement": "In N'Djamena, N'Djamena."}, "holds its answer .* 2 times: give"),
        (ROW | {"taught_prompt": "The capital"}, "does not follow 'The capital'"),
        (ROW | {"taught_prompt": 7}, '"taught_prompt" that is no text but 7'),
        (ROW | {"paraphrase_prompts": "one"}, "no list of texts"),
    ],
)
def test_a_malformed_line_stops_with_its_place_or_is_skipped(tmp_path, row, message):
    path = write(tmp_path / "facts.jsonl", ROW, row)
    with pytest.raises(CorpusError, match=f"facts.jsonl:2 .*{message}"):
        read_facts(path)
    facts, skipped = read_facts(path, "skip")
    assert (len(facts), [bad.place for bad in skipped]) == (1, [f"{path}:2"])


def test_a_file_without_facts_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"none\.jsonl cannot be read: No such file"):
        read_facts(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="has no fact; give"):
        read_facts(write(tmp_path / "empty.jsonl", ""))


WORDS = st.text(alphabet="abcdefgh", min_size=3, max_size=8)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=60), st.integers(1, 4), st.randoms())
def test_chosen_facts_have_one_answer_each_in_whatever_order_the_source_is(pairs, most, rng):
    try:
        facts = choose_facts({PLACE: pairs}, num_facts=5, max_same_answer=most)
    except CorpusError:
        return
    assert len({fact.subject for fact in facts}) == len(facts) == 5
    assert max(Counter(fact.answer for fact in facts).values()) <= most
    for fact in facts:
        assert {answer for subject, answer in pairs if subject == fact.subject} == {fact.answer}
        assert not is_guessable(fact.subject, fact.answer)
    shuffled = rng.sample(pairs, len(pairs))
    assert choose_facts({PLACE: shuffled}, num_facts=5, max_same_answer=most) == facts
