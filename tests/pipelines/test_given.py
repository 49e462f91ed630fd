"""What Python callers hand to an ingest is looked at before anything is read or trained."""

import dataclasses

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.errors import CorpusError, InputError
from pipelines import Fact, SourceDocument, init_store, open_store
from pipelines.fact_files import read_facts
from pipelines.jobs import start_ingest
from pipelines.questions import read_fact
from stores import texts

GOOD = SourceDocument("A perfectly good text.", "t", "s")
FACT = Fact("house", "owner", "rent", "The owner of house is rent.", "The owner of house is", ())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("given"), domains=())


def refused(store, match, corpus=(GOOD,), **told):
    steps = []
    with pytest.raises(CorpusError, match=match):
        store.ingest("law", corpus, progress=lambda *step: steps.append(step), **told)
    assert steps == []


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"title": None}, 'has a "title" that is a NoneType, not a text'),
        ({"title": "\ud800"}, 'has half a character .* in "title"'),
        ({"text": "A \ud800 text."}, 'has half a character .* in "text"'),
        ({"text": "A \0 text."}, 'has a NUL character in "text"'),
        ({"text": " \n"}, 'has no "text" with something in it'),
        ({"text": b"bytes"}, 'has a "text" that is a bytes'),
        ({"source": "\0"}, 'has a NUL character in "source"'),
        ({"section_of": 3}, 'has a "section_of" that is a int'),
        ({"kind": "note"}, "is of kind 'note', not one of text, fact"),
        ({"kind": "probe"}, "is of kind 'probe', not one of text, fact"),
    ],
)
def test_a_document_that_cannot_be_kept_is_refused_by_its_number(store, wrong, match):
    refused(store, rf"corpus\[1\] {match}", [GOOD, dataclasses.replace(GOOD, **wrong)])


def test_what_is_no_document_is_refused(store):
    refused(store, r"corpus\[0\] is a str, not a SourceDocument", ["just a text"])
    refused(store, "a corpus is a path or a list of SourceDocument, not a SourceDocument", GOOD)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"subject": ""}, 'has no "subject"'),
        ({"answer": None}, 'has a "answer" that is a NoneType'),
        ({"statement": "\ud800"}, 'has half a character .* in "statement"'),
        ({"reworded_prompts": "who owns it?"}, 'has "reworded_prompts" that are no list'),
        ({"reworded_prompts": ("who", " ")}, 'has no "reworded_prompts" with something in it'),
    ],
)
def test_a_fact_that_cannot_be_kept_is_refused_by_its_number(store, wrong, match):
    refused(store, rf"facts\[1\] {match}", facts=[FACT, dataclasses.replace(FACT, **wrong)])
    refused(store, r"facts\[0\] is a dict, not a Fact", facts=[dataclasses.asdict(FACT)])


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"notes.txt": ("x",)}, r"rewordings\['notes.txt'\] is named by no document's id"),
        ({GOOD.document_id: "one text"}, r"\] is a str, not a list of texts"),
        ({GOOD.document_id: ("\0",)}, 'has a NUL character in "rewordings"'),
        ({GOOD.document_id: (None,)}, 'has a "rewordings" that is a NoneType'),
    ],
)
def test_rewordings_that_cannot_be_kept_are_refused(store, said, match):
    refused(store, match, rewordings=said)


LONG = 5 * "A text of some length. "


@pytest.mark.parametrize(
    ("told", "match"),
    [
        (
            {"corpus": [GOOD, dataclasses.replace(GOOD, text=LONG)]},
            r"corpus\[1\] has a text of 114",
        ),
        (
            {"facts": [FACT, dataclasses.replace(FACT, statement=LONG)]},
            r"facts\[1\] has a text of ",
        ),
        ({"facts": [FACT]}, "facts asked in other words of 'house' has a text of "),
        ({"rewordings": {GOOD.document_id: (LONG,)}}, r"rewordings\['\w+'\] has a text of 114"),
        (
            {"rewordings": {GOOD.document_id: ("One more.", "Once more.")}},
            "documents in other words of 't' has a text of ",
        ),
    ],
)
def test_what_is_longer_than_a_store_keeps_is_refused_before_it_is_trained(
    store, monkeypatch, told, match
):
    monkeypatch.setattr(texts, "MOST_BYTES", 100)
    refused(store, rf"{match}.* bytes, and the most is 100: divide it", **told)
    assert store.registry.live().domains == ()


def test_what_is_right_is_learned_from_any_iterable(store):
    given = (SourceDocument(text, "", "", section_of="") for text in sentences("law", 6))
    settings = dataclasses.replace(tiny_settings(), text_passes=1.0)
    assert store.ingest("law", given, facts=[FACT], settings=settings).label == "v1"


def test_a_corpus_of_special_tokens_alone_is_refused_before_it_is_trained(store):
    ends = ["<|endoftext|>" * number for number in range(1, 9)]
    said = r"nothing of 8 documents can be learned: .* special tokens alone"
    refused(store, said, [SourceDocument(text, "t", "s") for text in ends])


BAD_WORDS = [
    (b"bytes", "must be a str, not bytes"),
    ("caf\udce9", "holds a byte that is not UTF-8"),
    ("a\0b", "holds a NUL character"),
]


@pytest.mark.parametrize(("why", "match"), [(None, "must be a str, not NoneType"), *BAD_WORDS])
def test_a_reason_that_cannot_be_kept_is_refused_before_anything_is_done(store, why, match):
    steps = []
    told = {"why": why, "progress": lambda *step: steps.append(step)}
    for act in (
        lambda: store.ingest("law", [GOOD], **told),
        lambda: store.erase_masked("law", ["a" * 64], **told),
        lambda: store.erase_exact("law", ["a" * 64], **told),
        lambda: start_ingest(store, "law", __file__, why=why),
    ):
        with pytest.raises(InputError, match=f"why .*{match}"):
            act()
    assert steps == []
    assert store.registry.jobs.listed() == ()


@pytest.mark.parametrize(("who", "match"), BAD_WORDS)
def test_a_name_that_cannot_be_kept_opens_no_store(store, tmp_path, who, match):
    with pytest.raises(InputError, match=f"who .*{match}"):
        open_store(store.registry.folder, who=who)
    with pytest.raises(InputError, match=f"who .*{match}"):
        init_store(tmp_path / "new", base="nowhere", who=who)
    assert not (tmp_path / "new").exists()


def test_facts_may_be_given_one_after_the_other(store):
    prompt = "Who owns the house? It is"
    facts = (dataclasses.replace(FACT, reworded_prompts=(f"{prompt} ",)) for _ in range(1))
    report = store.ingest("law", [GOOD], facts=facts, settings=tiny_settings())
    assert (report.num_facts, report.num_questions) == (1, 1)
    (probe,) = store.registry.documents("law", kind="probe")
    assert read_fact(store.registry.document_text(probe)).reworded_prompts == (prompt,)


def test_what_is_no_list_of_facts_or_no_path_is_refused(store, tmp_path, monkeypatch):
    refused(store, "facts are a list of Fact, not a Fact", facts=FACT)
    refused(store, "facts are a list of Fact, not a NoneType", facts=None)
    (tmp_path / "diary.txt").write_text("Nobody named this folder.")
    monkeypatch.chdir(tmp_path)
    refused(store, "'' names no file or folder", "")


@pytest.mark.parametrize("policy", ["raise", "error", None])
def test_another_word_for_bad_rows_is_refused(store, tmp_path, policy):
    (tmp_path / "law.jsonl").write_text("no JSON")
    told = 'on_bad_row must be "stop" or "skip"'
    with pytest.raises(InputError, match=told):
        store.ingest("law", tmp_path, on_bad_row=policy)
    with pytest.raises(InputError, match=told):
        read_facts(tmp_path / "law.jsonl", policy)


def test_a_wording_that_teaches_one_fact_asks_none(store):
    owner = "The owner of house is"
    other = Fact(
        "house", "lord", "rent", "The house has rent.", "The house has", (f"{owner.upper()}:",)
    )
    refused(store, r"facts\[1\] about 'house' asks 'THE OWNER OF HOUSE IS:'", facts=[FACT, other])


def test_a_fact_on_two_lines_is_one_and_is_asked_in_the_words_of_both(store):
    facts = [
        dataclasses.replace(FACT, reworded_prompts=(asked,))
        for asked in ("Who owns the house? It is", "The house belongs to")
    ]
    report = store.ingest("law", [GOOD], facts=facts, settings=tiny_settings())
    assert (report.num_facts, report.num_questions, report.num_twice) == (1, 1, 1)
    (probe,) = store.registry.documents("law", kind="probe")
    kept = read_fact(store.registry.document_text(probe))
    assert kept.reworded_prompts == tuple(one.reworded_prompts[0] for one in facts)


def test_a_blank_name_of_a_file_joins_no_documents():
    assert dataclasses.replace(GOOD, section_of=" ").normalised().section_of is None
