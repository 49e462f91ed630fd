import re
from collections import Counter

import pytest

from benchmarks.stream import corpora, questions
from benchmarks.stream.questions import (
    NUM_NAMED,
    general,
    naming,
    overlaps,
    template,
    with_questions,
    wordings,
)
from peer_cl.errors import CorpusError
from pipelines import demo_corpora
from pipelines.fact_rows import FRAMES
from pipelines.facts import Fact, Relation


def demo_relations():
    modules = (
        demo_corpora.geography,
        demo_corpora.medicine,
        demo_corpora.minerals,
        demo_corpora.security,
    )
    found = [value for module in modules for value in vars(module).values()]
    return [relation for relation in found if isinstance(relation, Relation)]


def demo_wordings():
    return {one for relation in demo_relations() for one in (relation.seen, *relation.reworded)}


def trained_by_source(name):
    """Relations of a domain's module and of the demo module it reuses, by name."""
    module = getattr(corpora, name)
    reused = [getattr(module, part, None) for part in ("geography", "minerals", "security")]
    found = [value for place in (module, *reused) if place for value in vars(place).values()]
    return {relation.name: relation.seen for relation in found if isinstance(relation, Relation)}


@pytest.mark.parametrize("name", corpora.NAMES)
def test_wordings_are_many_and_ask_about_the_subject_up_to_the_answer(name):
    trained = trained_by_source(name)
    assert set(wordings(name)) == set(trained)
    for relation, found in wordings(name).items():
        assert len(set(found)) == len(found) >= 5
        for wording in found:
            assert wording.count("{subject}") == 1, relation
            assert wording == wording.strip()
            assert not wording.endswith((".", "?"))


@pytest.mark.parametrize("name", corpora.NAMES)
def test_no_wording_shares_four_words_with_a_trained_one_or_repeats_a_pipelines(name):
    trained = sorted(trained_by_source(name).values())
    known = demo_wordings()
    for found in wordings(name).values():
        for wording in found:
            assert overlaps(wording, trained) == set(), wording
            assert wording not in known


@pytest.mark.slow
@pytest.mark.parametrize("name", corpora.NAMES)
def test_no_wording_shares_four_words_with_a_statement_as_it_is_trained(name, domain_of):
    trained = sorted({template(fact) for fact in domain_of(name).facts})
    for found in wordings(name).values():
        assert [wording for wording in found if overlaps(wording, trained)] == []


def asked():
    """Relations' names, each with the wordings in which this project asks for it."""
    for name in corpora.NAMES:
        yield from wordings(name).items()
    for relation in demo_relations():
        yield relation.name, relation.reworded


def test_no_wording_that_is_asked_is_like_a_sentence_that_fits_any_relation():
    for relation, found in asked():
        frames = [frame.replace("{relation}", relation) for frame in FRAMES]
        for wording in found:
            assert overlaps(wording, frames) == set(), wording
            assert wording.lower() not in frames


def test_a_shared_run_is_found_across_the_subject():
    trained = ["The capital of {subject} is"]
    assert overlaps("Tell me: the capital of {subject} is", trained)
    assert overlaps("{subject}: the capital of which is", trained) == set()
    assert overlaps("THE capital, of {subject}, is", trained) == {("the", "capital", "of", "is")}


def test_facts_lose_the_wordings_they_had():
    fact = Fact("Chad", "capital", "N'Djamena", "", "The capital of Chad is", ("Chad has",))
    (asked,) = with_questions([fact], "geography")
    assert "Chad has" not in asked.reworded_prompts
    assert "Which city serves as capital to Chad? Answer:" in asked.reworded_prompts
    with pytest.raises(CorpusError, match=r"lore\.toml has no wordings of 'capital'"):
        with_questions([fact], "lore")


def test_a_domain_without_a_file_is_told_so():
    with pytest.raises(CorpusError, match=r"no .*astrology\.toml"):
        wordings("astrology")


def test_general_prompts_are_two_hundred_half_of_them_with_a_rare_word():
    prompts = general()
    assert len({question.prompt for question in prompts}) == len(prompts) == 200
    assert [question.rare is None for question in prompts] == [True] * 100 + [False] * 100
    counts = Counter(question.domain for question in prompts[100:])
    assert set(counts) == set(corpora.NAMES)
    assert min(counts.values()) >= 12
    for question in prompts:
        assert question.prompt == question.prompt.strip()
        assert 6 <= len(re.findall(r"\w+|[^\w\s]", question.prompt)) <= 28
        assert question.answer is None or 1 <= len(question.answer.split()) <= 3


def test_a_rare_word_stands_in_its_prompt_alone():
    for question in general():
        if question.rare:
            assert holds(question.prompt, question.rare)
    plain = " ".join(question.prompt for question in general() if not question.rare)
    assert [q.rare for q in general() if q.rare and holds(plain, q.rare)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", corpora.NAMES)
def test_rare_words_come_from_the_domains_own_texts(name, domain_of):
    text = "\n".join(document.text for document in domain_of(name).documents)
    rare = [question.rare for question in general() if question.domain == name]
    assert [word for word in rare if not holds(text, word)] == []


def holds(text, word):
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def test_questions_lie_beside_the_benchmarks_and_not_in_a_pipeline():
    assert questions.FOLDER.parts[-2:] == ("benchmarks", "questions")
    found = {path.stem for path in questions.FOLDER.glob("*.toml")}
    assert found == {*corpora.NAMES, "general", "naming"}


def test_sentences_that_only_name_are_no_questions_and_share_no_words_with_trained_ones():
    facts = [
        Fact(f"stone {n}", "colour", "red", "", f"The colour of stone {n} is", ())
        for n in range(30)
    ]
    found = naming(facts)
    assert len(set(found)) == len(found) == NUM_NAMED * 12
    assert found == naming(facts[::-1])
    trained = [one for name in corpora.NAMES for one in trained_by_source(name).values()]
    asked = [one for name in corpora.NAMES for found in wordings(name).values() for one in found]
    for text in found[:12]:
        form = text.replace(
            next(f.subject for f in facts if f"{f.subject} " in f"{text} "), "{subject}"
        )
        assert form.count("{subject}") == 1
        assert overlaps(form, [*trained, *asked, *FRAMES]) == set(), form
