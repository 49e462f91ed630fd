import re
from collections import Counter

import pytest

from peer_cl.errors import UnknownError
from pipelines import demo_corpora
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.splits import split_documents

CHARACTERS_A_TOKEN = {"security": 5.2, "medicine": 4.7, "geography": 4.9, "minerals": 4.0}


@pytest.fixture(params=demo_corpora.DOMAINS)
def corpus(request, fetched):
    fetched(demo_corpora.PACKAGES[request.param])
    return demo_corpora.load(request.param)


def test_a_corpus_is_clean_sized_as_asked_and_has_a_hundred_exact_facts(corpus):
    texts = [document.text for document in corpus.documents]
    num_tokens = sum(map(len, texts)) / CHARACTERS_A_TOKEN[corpus.domain]
    assert num_tokens == pytest.approx(24_000, rel=0.1)
    assert len({document.document_id for document in corpus.documents}) == len(texts)
    marks = re.compile(r"\(Citation|\]\(http|</?\w+>|&\w+;|  |\.\.\.$|\\\"")
    assert [text for text in texts if marks.search(text)] == []
    assert all(document.title and document.source for document in corpus.documents)
    assert_facts_are_exact(corpus.facts)


def assert_facts_are_exact(facts):
    assert len(facts) == 100
    assert len({fact.statement for fact in facts}) == 100
    questions = [prompt for fact in facts for prompt in (fact.seen_prompt, *fact.reworded_prompts)]
    assert len(set(questions)) == len(questions)
    for fact in facts:
        assert fact.statement == f"{fact.seen_prompt} {fact.answer}."
        assert 1 <= len(fact.answer.split()) <= 4
        assert len(fact.reworded_prompts) >= 2
        assert all(prompt == prompt.rstrip() for prompt in fact.reworded_prompts)
    for relation in {fact.relation for fact in facts}:
        answers = Counter(fact.answer for fact in facts if fact.relation == relation)
        assert max(answers.values()) / answers.total() <= 0.4


def test_training_and_held_out_parts_have_their_sizes(corpus):
    documents = [*corpus.documents, *corpus.fact_documents()]
    splits = split_documents(documents)
    characters = Counter()
    for document in documents:
        characters[splits.split[document.document_id]] += len(document.text)
    share = CHARACTERS_A_TOKEN[corpus.domain]
    assert 16_000 <= characters["train"] / share <= 25_000
    assert 2_000 <= characters["test"] / share <= 6_000
    held_out = {key for key, side in splits.split.items() if side != "train"}
    assert held_out.isdisjoint(document.document_id for document in corpus.fact_documents())


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(fetched):
    fetched(demo_corpora.PACKAGES["minerals"])
    small, large = (demo_corpora.load("minerals", hint) for hint in (3_000, 6_000))
    assert 0 < len(small.documents) < len(large.documents)
    assert large.documents[: len(small.documents)] == small.documents
    assert small.facts == large.facts


def test_an_unknown_domain_is_named_with_the_nearest():
    with pytest.raises(UnknownError, match="Did you mean 'medicine'"):
        demo_corpora.load("medcine")


def test_sections_are_chosen_together_and_the_order_of_the_source_does_not_matter():
    documents = [
        SourceDocument(f"text {number}", f"t{number}", "s", section_of=f"book {number % 7}")
        for number in range(70)
    ]
    chosen = choose_documents(documents, 50, characters_per_token=4)
    books = Counter(document.section_of for document in chosen)
    assert 0 < len(books) < 7
    assert set(books.values()) == {10}
    again = choose_documents(documents[::-1], 50, characters_per_token=4)
    assert set(again) == set(chosen)
