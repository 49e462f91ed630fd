"""Changed wordings of facts: the subject stays, and no paraphrase kept for asking is made."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.facts import (
    FRAMES,
    Fact,
    Relation,
    Wording,
    changed_prompt,
    folded_wording,
    vary_wording,
)

WORDS = ("quartz", "hard", "crystal")
STOPS = {*",.?:;"}
CAPITAL = Relation("capital", "The capital of {subject} is", ("In {subject} they govern from",))
LIES = Relation("place", "{subject} lies in", ("Where is {subject}?",))


def changed(fact, seed):
    return vary_wording(Wording.of(fact), WORDS, random.Random(seed)).text


def prompts_of(fact, num=400):
    draw = random.Random(0)
    return [changed_prompt(fact, WORDS, draw) for _ in range(num)]


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


def test_more_than_half_of_the_prompts_come_from_sentences_that_fit_any_relation():
    prompts = prompts_of(LIES.fact("Oslo", "the north"))
    # The relation's name is no word of the fact's own wording; some are lost to the changes.
    assert 0.4 < sum("place" in prompt.lower() for prompt in prompts) / len(prompts) < 0.65
    assert all(prompt.count("Oslo") == 1 for prompt in prompts)


def test_prompts_depend_on_the_draw_alone():
    chad = CAPITAL.fact("Chad", "rent")
    assert prompts_of(chad, 20) == prompts_of(chad, 400)[:20]


@pytest.mark.parametrize("relation", ["capital", "seat"])
def test_no_paraphrase_kept_for_asking_is_ever_made(relation):
    framed = [frame.format(subject="Chad", relation=relation) for frame in FRAMES[:-1]]
    asked = ("The capital of Chad", "Chad is", *framed)
    chad = Fact("Chad", relation, "rent", "Chad is rent.", "The capital of Chad is", asked)
    prompts = set(map(folded_wording, prompts_of(chad, 1000)))
    assert len(prompts) > 300
    assert not prompts & set(map(folded_wording, asked))
