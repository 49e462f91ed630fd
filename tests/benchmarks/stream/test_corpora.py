import re
from collections import Counter

import pytest

from benchmarks.stream import corpora, debian
from benchmarks.stream.corpora.acronyms import _acronym
from benchmarks.stream.corpora.diseases import _share
from benchmarks.stream.questions import template
from peer_cl.errors import CorpusError, UnknownError
from pipelines.splits import split_documents

CHARACTERS_A_TOKEN = {
    "diseases": 4.8,
    "geography": 4.9,
    "attack": 5.2,
    "weaknesses": 5.35,
    "components": 4.4,
    "acronyms": 3.7,
    "minerals": 4.0,
    "lore": 4.5,
}
MARKUP = re.compile(r"\(Citation|\]\(http|</?\w+>|&\w+;|  |\{\{|%%%%|[@\\]")


@pytest.fixture(params=corpora.NAMES)
def domain(request, domain_of):
    return domain_of(request.param)


def sides(domain):
    documents = [*domain.documents, *(fact.document(domain.name) for fact in domain.facts)]
    split = split_documents(documents).split
    held = {"train": [], "validation": [], "test": []}
    for document in domain.documents:
        held[split[document.document_id]].append(document)
    return held


@pytest.mark.slow
def test_a_domain_is_the_same_twice_and_has_clean_texts(domain):
    again = corpora.load(domain.name)
    assert again == domain
    texts = [document.text for document in domain.documents]
    assert len({document.document_id for document in domain.documents}) == len(texts)
    assert [text for text in texts if MARKUP.search(text)] == []
    assert all(document.title and document.source for document in domain.documents)
    assert domain.notice


@pytest.mark.slow
def test_about_sixteen_thousand_tokens_are_trained_on_and_some_are_held_out(domain):
    share = CHARACTERS_A_TOKEN[domain.name]
    tokens = {
        side: sum(len(document.text) for document in documents) / share
        for side, documents in sides(domain).items()
    }
    assert tokens["train"] == pytest.approx(16_000, rel=0.06)
    assert 2_300 <= tokens["test"] <= 5_500
    assert 300 <= tokens["validation"] <= 2_000
    for document in domain.documents:
        assert 20 <= len(document.text) / share <= 420


@pytest.mark.slow
def test_a_domain_has_a_hundred_exact_facts_with_several_questions_each(domain):
    facts = domain.facts
    assert len(facts) == len({fact.statement for fact in facts}) == 100
    for fact in facts:
        assert fact.statement == f"{fact.seen_prompt} {fact.answer}."
        assert 1 <= len(fact.answer.split()) <= 4
        assert len(set(fact.reworded_prompts)) == len(fact.reworded_prompts) >= 5
        assert all(fact.subject in prompt for prompt in fact.reworded_prompts)
    for relation in {fact.relation for fact in facts}:
        answers = Counter(fact.answer for fact in facts if fact.relation == relation)
        assert max(answers.values()) <= 0.35 * answers.total()
        assert len({template(fact) for fact in facts if fact.relation == relation}) == 1


@pytest.mark.slow
def test_no_held_out_document_gives_a_fact_away(domain):
    held = sides(domain)
    unseen = [document.text.lower() for document in (*held["test"], *held["validation"])]
    for fact in domain.facts:
        assert not any(fact.statement.lower().rstrip(".") in text for text in unseen)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diseases", "weaknesses", "components", "lore"])
def test_no_text_is_about_what_a_fact_is_about(name, domain_of):
    domain = domain_of(name)
    titles = {document.title for document in domain.documents}
    assert titles.isdisjoint(fact.subject for fact in domain.facts)


@pytest.mark.slow
def test_no_line_spells_out_an_acronym_that_is_asked_for(domain_of):
    domain = domain_of("acronyms")
    told = {line.split(" ")[0] for d in domain.documents for line in d.text.splitlines()}
    assert told.isdisjoint(fact.subject for fact in domain.facts)


def test_the_near_neighbours_come_one_after_the_other():
    assert corpora.NAMES.index("weaknesses") == corpora.NAMES.index("attack") + 1
    assert tuple(corpora.PACKAGES) == corpora.NAMES


def test_an_unknown_domain_is_named_with_the_nearest():
    with pytest.raises(UnknownError, match="Did you mean 'minerals'"):
        corpora.load("mineral")


def test_what_cannot_be_had_is_told_with_its_reason(monkeypatch):
    def refuse(package):
        raise CorpusError(f"cannot download {package.label}: no apt-get")

    monkeypatch.setattr(corpora, "fetch", lambda package: None)
    monkeypatch.setattr(corpora, "fetch_deb", refuse)
    missing = corpora.missing()
    assert set(missing) == {"components", "acronyms", "lore"}
    assert missing["acronyms"] == "cannot download dict-vera 1:1.24-1: no apt-get"
    assert corpora.PACKAGES["lore"][0].label.startswith("crawl-common")
    assert debian.DebianPackage("a", "1", "", 0).label == "a 1"


def test_shares_of_patients_are_read_in_every_form():
    forms = ("3/4", "25%", "HP:0040280", "HP:0040285", "")
    assert [_share(form) for form in forms] == [(0.75, 4), (0.25, 0), (1.0, 0), (0.0, 0), (None, 0)]


@pytest.mark.slow
def test_no_field_can_be_read_off_an_acronym(domain_of):
    facts = [fact for fact in domain_of("acronyms").facts if fact.relation == "field"]
    assert [fact for fact in facts if fact.answer.upper() in fact.subject] == []


def test_an_acronym_without_brackets_has_no_field():
    assert _acronym("HTH", "       Hope This\n Helps\n").field == ""
    assert _acronym("X25", 'X [large] 25 (ISDN), "X.25"').expansion == "X 25"
