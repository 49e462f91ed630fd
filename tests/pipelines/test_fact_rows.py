"""Facts as rows: one wording, changed at random around the subject, and only the answer counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_base import SUBJECTS, make_tiny_base
from transformers import AutoTokenizer

from pipelines.batches import Row, target_weights, tokenise
from pipelines.fact_rows import FRAMES, STOPS, VARIED, varied_rows, vary_wording, with_answers
from pipelines.facts import Fact, Relation, folded_wording
from pipelines.questions import questions
from pipelines.settings import TrainingSettings

WORDS = ("quartz", "hard", "crystal")
CAPITAL = Relation("capital", "The capital of {subject} is", ("In {subject} they govern from",))
LIES = Relation("place", "{subject} lies in", ("Where is {subject}?",))
RELATIONS = st.sampled_from([CAPITAL, LIES])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(make_tiny_base(tmp_path_factory.mktemp("base")))


def by_document(*facts):
    return {fact.document("").document_id: fact for fact in facts}


@given(RELATIONS, st.integers(0, 10_000))
def test_the_subject_stays_and_every_other_word_is_the_prompts_or_the_domains(relation, seed):
    fact = relation.fact("Burkina Faso", "Ouagadougou")
    prompt = vary_wording(fact, WORDS, random.Random(seed))
    assert prompt.count("Burkina Faso") == 1
    rest = prompt.replace("Burkina Faso", "").split()
    assert set(rest) - set(STOPS) <= {*WORDS, *fact.seen_prompt.split()}
    assert len(set(rest) & set(STOPS)) <= 1
    assert len(rest) <= 12
    assert prompt == vary_wording(fact, WORDS, random.Random(seed))


def test_wordings_range_from_unchanged_to_changed_through_and_through():
    fact = CAPITAL.fact("Chad", "N'Djamena")
    found = {vary_wording(fact, WORDS, random.Random(seed)) for seed in range(400)}
    assert fact.seen_prompt in found
    assert any(not set(prompt.split()) & {"The", "capital", "of", "is"} for prompt in found)
    assert len(found) > 200


def test_a_subject_with_several_facts_keeps_more_of_its_words(tokenizer):
    settings = TrainingSettings(fact_passes=200.0, varied_share=1.0)
    alone = by_document(CAPITAL.fact("Chad", "rent"))
    several = by_document(CAPITAL.fact("Chad", "rent"), LIES.fact("Chad", "the north"))
    kept = []
    for facts in (alone, several):
        rows = varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, None)
        texts = [tokenizer.decode(row.ids) for row in rows if row.document_id in alone]
        kept.append(sum("capital" in text for text in texts) / len(texts))
    assert kept[0] < 0.65 < kept[1] < 0.95


def test_a_prompt_without_its_subject_stays():
    fact = Fact("the Chad", "capital", "N'Djamena", "", "Chad is governed from", ())
    assert vary_wording(fact, WORDS, random.Random(0)) == fact.seen_prompt


def test_what_stands_close_to_the_subject_stays_close():
    fact = Fact("Chad", "capital", "N'Djamena", "", "Its name (Chad): who knows", ())
    prompts = {vary_wording(fact, WORDS, random.Random(seed)) for seed in range(50)}
    assert all("(Chad):" in prompt for prompt in prompts)


def test_half_of_the_wordings_come_from_sentences_that_fit_any_relation(tokenizer):
    settings = TrainingSettings(fact_passes=400.0, varied_share=1.0)
    facts = by_document(LIES.fact("Oslo", "the north"))
    rows = varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, None)
    told = [tokenizer.decode(row.ids).lower() for row in rows]
    # The relation's name is no word of the fact's own wording; some are lost to the changes.
    assert 0.3 < sum("place" in text for text in told) / len(told) < 0.55


def test_a_frame_that_is_kept_for_asking_is_never_read(tokenizer):
    frame = FRAMES[1]
    kept = Relation("place", "{subject} lies in", (frame.format(relation="place", subject="Oslo"),))
    settings = TrainingSettings(fact_passes=400.0, varied_share=1.0)
    for relation, is_read in ((LIES, True), (kept, False)):
        facts = by_document(relation.fact("Oslo", "the north"))
        rows = varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, None)
        told = [tokenizer.decode(row.ids).lower() for row in rows]
        assert any("oslo has the place the north" in text for text in told) == is_read


def test_in_varied_rows_the_answer_counts_and_the_name_after_its_first_token(tokenizer):
    facts = by_document(CAPITAL.fact("Chad", "rent"), LIES.fact("Oslo", "the north"))
    settings = TrainingSettings(fact_passes=8.0, varied_share=0.75)
    end = tokenizer.eos_token_id
    rows = varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, end)
    assert len(rows) == 6 * len(facts)
    for row in rows:
        fact = facts[row.document_id]
        assert row.kind == VARIED
        assert row.counts_from == row.answer_from
        assert tokenizer.decode(row.ids[row.answer_from : -1]) == f" {fact.answer}."
        assert row.ids[-1] == end
        name = tokenizer.decode(row.ids[row.name[0] - 1 : row.name[1]])
        assert name.strip() == fact.subject
        weights = target_weights([row], len(row.ids), 4.0)[0].tolist()
        counted = {n for n, weight in enumerate(weights) if weight}
        assert counted == {*range(*row.name), *range(row.answer_from, len(row.ids))}
    assert len({row.ids for row in rows}) > len(facts)
    assert rows == varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, end)


def test_no_other_wording_of_a_fact_is_ever_trained_on(tokenizer):
    facts = by_document(*(LIES.fact(name, "the north") for name in ("Oslo", "Bergen", "Rana")))
    rows = varied_rows(tokenizer, facts, [SUBJECTS["law"]], TrainingSettings(), None)
    texts = [tokenizer.decode(row.ids) for row in rows]
    for fact in facts.values():
        for prompt in fact.reworded_prompts:
            assert not [text for text in texts if prompt in text]


def test_no_varied_row_is_made_where_none_is_wanted(tokenizer):
    facts = by_document(CAPITAL.fact("Chad", "rent"))
    assert varied_rows(tokenizer, facts, [], TrainingSettings(varied_share=0.0), None) == []
    # Without a text of the domain's own, the statement's words serve.
    assert varied_rows(tokenizer, facts, [], TrainingSettings(), None)


def test_rows_of_facts_are_told_where_the_answer_begins(tokenizer):
    fact = CAPITAL.fact("Chad", "rent")
    ((document_id, _),) = by_document(fact).items()
    ids = tuple(tokenise(tokenizer, [fact.statement])[0])
    text = Row("0" * 64, "text", ids)
    later = Row(document_id, "fact", (ids[0], *ids[-2:]))
    clean, same, piece = with_answers(
        tokenizer, [Row(document_id, "fact", ids), text, later], {document_id: fact}
    )
    assert tokenizer.decode(clean.ids[clean.answer_from :]) == " rent."
    assert clean.counts_from == 1
    assert (same, piece) == (text, later)


def told(statement, answer, *reworded):
    """Return a fact as a file's line tells it: its prompt is what stands before the answer."""
    prompt = statement[: statement.rfind(answer)].strip()
    return Fact("Kim", "badge", answer, statement, prompt, reworded)


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("The capital of Chad is N'Djamena.", "N'Djamena"),
        ("乍得的首都是恩贾梅纳。", "恩贾梅纳"),
        ("Kim has the badge #AB-12.", "AB-12"),
        ("Kim's badge:\nAB-12.", "AB-12"),
    ],
)
def test_a_fact_is_asked_as_its_statement_has_it(tokenizer, statement, answer):
    (asked,) = questions(tokenizer, "staff", [told(statement, answer)])
    taught = statement[: statement.rfind(answer)] + answer
    assert list(asked.ids) == tokenise(tokenizer, [taught])[0]
    assert tokenizer.decode(asked.ids[asked.num_prompt :]).endswith(answer)
    prompt = tokenizer.decode(asked.ids[1 : asked.num_prompt])
    assert taught.startswith(prompt)
    assert len(prompt) > 3


def test_other_prompts_have_a_blank_before_the_answer_where_its_script_has_blanks(tokenizer):
    badge = told("Kim has the badge #AB-12.", "AB-12", "Whose badge? Kim's:", "Kim's is #")
    chad = told("乍得的首都是恩贾梅纳。", "恩贾梅纳", "乍得政府位于")
    asked = questions(tokenizer, "staff", [badge, chad])
    assert [tokenizer.decode(one.ids[1:]) for one in asked if one.wording == "reworded"] == [
        "Whose badge? Kim's: AB-12",
        "Kim's is #AB-12",
        "乍得政府位于恩贾梅纳",
    ]
    rows = varied_rows(tokenizer, by_document(chad), WORDS, TrainingSettings(), None)
    assert rows
    for row in rows:
        text = tokenizer.decode(row.ids[1:])
        assert text.endswith("恩贾梅纳.")
        assert not text.endswith(" 恩贾梅纳.")


def test_no_wording_that_is_kept_for_asking_is_drawn(tokenizer):
    settings = TrainingSettings(fact_passes=2000.0, varied_share=1.0)
    asked = ("The capital of Chad", "Chad is", "the capital, which: Chad")
    facts = [
        Fact(
            "Chad", "capital", "rent", "The capital of Chad is rent.", "The capital of Chad is", ()
        ),
        Fact(
            "Niger",
            "capital",
            "rent",
            "The capital of Niger is rent.",
            "The capital of Niger is",
            asked,
        ),
    ]
    rows = varied_rows(tokenizer, by_document(*facts), [SUBJECTS["minerals"]], settings, None)
    prompts = {tokenizer.decode(row.ids[1 : row.answer_from]) for row in rows}
    assert len(prompts) > 500
    assert not {folded_wording(one) for one in prompts} & {folded_wording(one) for one in asked}
