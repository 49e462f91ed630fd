"""Changed wordings of facts: the subject stays, and only the answer and the name count."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_base import SUBJECTS, make_tiny_base
from transformers import AutoTokenizer

from pipelines.batches import Row, tokenise
from pipelines.facts import (
    FRAMES,
    VARIED,
    Fact,
    Relation,
    Wording,
    folded_wording,
    varied_rows,
    vary_wording,
    with_answers,
)
from pipelines.settings import TrainingSettings

WORDS = ("quartz", "hard", "crystal")
STOPS = {*",.?:;"}
CAPITAL = Relation("capital", "The capital of {subject} is", ("In {subject} they govern from",))
LIES = Relation("place", "{subject} lies in", ("Where is {subject}?",))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(make_tiny_base(tmp_path_factory.mktemp("base")))


def by_document(*facts):
    return {fact.document_id: fact for fact in facts}


def varied_texts(tokenizer, *facts, words="minerals", **fields):
    settings = TrainingSettings(**{"fact_passes": 400.0, "varied_share": 1.0} | fields)
    rows = varied_rows(tokenizer, by_document(*facts), [SUBJECTS[words]], settings, None)
    return [tokenizer.decode(row.ids[1:]) for row in rows]


def changed(fact, seed):
    return vary_wording(Wording.of(fact), WORDS, random.Random(seed)).text


@given(st.sampled_from([CAPITAL, LIES]), st.integers(0, 10_000))
def test_the_subject_stays_and_every_other_word_is_the_prompts_or_the_domains(relation, seed):
    fact = relation.fact("Burkina Faso", "Ouagadougou")
    prompt = changed(fact, seed)
    assert prompt.count("Burkina Faso") == 1
    rest = prompt.replace("Burkina Faso", "").split()
    assert set(rest) - STOPS <= {*WORDS, *fact.taught_prompt.split()}
    assert len(rest) <= 12
    assert prompt == changed(fact, seed)


def test_wordings_range_from_unchanged_to_changed_throughout():
    fact = CAPITAL.fact("Chad", "N'Djamena")
    found = {changed(fact, seed) for seed in range(400)}
    assert fact.taught_prompt in found
    assert any(not set(prompt.split()) & {"The", "capital", "of", "is"} for prompt in found)
    assert len(found) > 200


def test_a_prompt_without_its_subject_stays_and_brackets_stay_close():
    fact = Fact("the Chad", "capital", "N'Djamena", "", "Chad is governed from")
    assert changed(fact, 0) == fact.taught_prompt
    fact = Fact("Chad", "capital", "N'Djamena", "", "Its name (Chad): who knows")
    assert all("(Chad):" in changed(fact, seed) for seed in range(50))


def test_half_of_the_wordings_come_from_sentences_that_fit_any_relation(tokenizer):
    texts = varied_texts(tokenizer, LIES.fact("Oslo", "the north"))
    # The relation's name is no word of the fact's own wording; some are lost to the changes.
    assert 0.3 < sum("place" in text.lower() for text in texts) / len(texts) < 0.55


def test_a_subject_with_several_facts_keeps_more_of_its_words(tokenizer):
    alone, other = CAPITAL.fact("Chad", "rent"), LIES.fact("Chad", "north")
    kept = []
    for facts in ((alone,), (alone, other)):
        texts = varied_texts(tokenizer, *facts)
        own = [text for text in texts if text.endswith(" rent.")]
        kept.append(sum("capital" in text for text in own) / len(own))
    assert kept[0] < 0.65 < kept[1] < 0.95


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
        assert tokenizer.decode(row.ids[row.name[0] - 1 : row.name[1]]).strip() == fact.subject
    assert rows == varied_rows(tokenizer, facts, [SUBJECTS["minerals"]], settings, end)


def test_no_paraphrase_kept_for_asking_is_ever_trained_on(tokenizer):
    asked = ("The capital of Chad", "Chad is", FRAMES[1].format(subject="Chad", relation="capital"))
    chad = Fact("Chad", "capital", "rent", "Chad is rent.", "The capital of Chad is", asked)
    facts = [chad, CAPITAL.fact("Niger", "rent"), LIES.fact("Oslo", "rent")]
    texts = varied_texts(tokenizer, *facts, fact_passes=1000.0)
    prompts = {folded_wording(text.removesuffix(" rent.")) for text in texts}
    assert len(prompts) > 500
    kept = {folded_wording(one) for fact in facts for one in fact.paraphrase_prompts}
    assert not prompts & kept


def test_no_varied_row_is_made_where_none_is_wanted(tokenizer):
    facts = by_document(CAPITAL.fact("Chad", "rent"))
    assert varied_rows(tokenizer, facts, [], TrainingSettings(varied_share=0.0), None) == []
    # Without a text of the domain's own, the statement's words serve.
    assert varied_rows(tokenizer, facts, [], TrainingSettings(), None)


def test_rows_of_facts_note_where_the_answer_begins(tokenizer):
    fact = CAPITAL.fact("Chad", "rent")
    ids = tuple(tokenise(tokenizer, [fact.statement])[0])
    text = Row("0" * 64, "text", ids)
    later = Row(fact.document_id, "fact", (ids[0], *ids[-2:]))
    whole, same, piece = with_answers(
        tokenizer, [Row(fact.document_id, "fact", ids), text, later], by_document(fact)
    )
    assert tokenizer.decode(whole.ids[whole.answer_from :]) == " rent."
    assert (whole.counts_from, same, piece) == (1, text, later)
