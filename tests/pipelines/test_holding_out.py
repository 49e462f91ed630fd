"""What an ingest holds out, what becomes of it when it is given again, and in an exact erasure."""

import dataclasses
import json

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.errors import CorpusError, StateError
from pipelines import Fact, SourceDocument
from pipelines.loading import load_tokenizer
from pipelines.preparing import Chain, prepare, read_chain
from pipelines.previewing import preview
from pipelines.splits import split_documents

SETTINGS = dataclasses.replace(tiny_settings(), text_passes=1.0, fact_passes=2.0)
ALL = dataclasses.replace(SETTINGS, hold_out_percent=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("held"), domains=())


@pytest.fixture(scope="module")
def base(made):
    from pipelines import open_store

    with open_store(made) as store:
        return type("Loaded", (), {"tokenizer": load_tokenizer(store.registry)})


def documents(subject, num, seed=3):
    return [SourceDocument(text, "n", "n") for text in sentences(subject, num, seed=seed)]


def fact_of(text):
    """Return a fact whose statement is a text."""
    prompt, answer = text.rstrip(".").rsplit(" ", 1)
    return Fact("court", "holding", answer, text, prompt, ("What is held is",))


def grown(base, texts, percent=23.0):
    """Return a chain that holds some documents, and the first of them that is held out."""
    learned = prepare(Chain("law", None), texts, (), base, None, percent)
    return Chain("law", None).holding(learned), learned.of("test")[0]


# --- division -------------------------------------------------------------------------------------


def test_what_is_held_out_is_told_apart_from_what_is_known(base):
    texts = documents("law", 30)
    chain, held = grown(base, texts)
    known = next(d for d in texts if d.document_id not in chain.held_out_ids)
    again = [known, held, held, *documents("law", 5, 7)]
    learned = prepare(chain, again, (), base)
    counted = (learned.num_duplicates, learned.num_twice, learned.num_held_out)
    assert counted == (3, 1, 1)
    assert len(learned.documents) == 5


def test_a_fact_whose_statement_is_held_out_is_learned(base):
    chain, held = grown(base, documents("law", 30))
    fact = fact_of(held.text)
    learned = prepare(chain, [held, *documents("law", 5, 7)], [fact], base)
    assert learned.splits[held.document_id] == "train"
    assert learned.facts == {held.document_id: fact}
    assert [d.title for d in learned.documents if d.kind == "probe"] == ["court"]
    assert (learned.num_duplicates, learned.num_twice, learned.num_held_out) == (1, 1, 0)
    after = chain.holding(learned)
    assert held.document_id not in after.held_out_ids
    again = prepare(after, [held, *documents("law", 2, 8)], (), base)
    assert (again.num_duplicates, again.num_held_out) == (1, 0), "now it is known"


@pytest.mark.parametrize(("percent", "least", "most"), [(0, 0, 0), (23.0, 40, 110), (60, 200, 280)])
def test_so_many_are_held_out_as_is_said(base, percent, least, most):
    learned = prepare(Chain("law", None), documents("law", 400), (), base, None, percent)
    assert least <= len(learned.of("test")) + len(learned.of("validation")) <= most


def test_by_default_the_division_is_that_of_before(base):
    texts = documents("law", 200)
    before = split_documents(texts, test_percent=18.0, validation_percent=5.0)
    assert prepare(Chain("law", None), texts, (), base).splits == before.split


def test_what_was_held_out_once_is_learned_where_nothing_is_to_be_held_out(base):
    texts = documents("law", 30)
    chain, held = grown(base, texts)
    learned = prepare(chain, texts, (), base, None, 0)
    assert set(learned.splits.values()) == {"train"}
    assert {d.document_id for d in learned.documents} == chain.held_out_ids
    assert held.document_id in chain.held_out_ids
    assert chain.holding(learned).held_out_ids == frozenset()


def test_a_near_copy_of_what_was_held_out_and_then_learned_is_learned(base):
    texts = documents("law", 30)
    chain, held = grown(base, texts)
    copy = dataclasses.replace(held, text=held.text + " Truly.")
    before = prepare(chain, [copy], (), base)
    assert before.splits == {copy.document_id: "test"}, "beside what is held out still"
    after = prepare(chain.holding(prepare(chain, texts, (), base, None, 0)), [copy], (), base)
    assert after.splits == {copy.document_id: "train"}


def test_beside_others_that_are_held_out_still_a_document_stays_held_out(base):
    parts = [
        SourceDocument(text, "part", "book", section_of="book") for text in sentences("law", 3)
    ]
    sides = {d.document_id: "test" for d in parts}
    chain = Chain(
        "law",
        None,
        document_ids=frozenset(sides),
        known=tuple((dataclasses.replace(d, section_of="0 book"), "test") for d in parts),
        held_out_ids=frozenset(sides),
    )
    learned = prepare(chain, [parts[0], *documents("law", 4, 8)], (), base, None, 0)
    assert [d.title for d in learned.documents] == ["n"] * 4
    assert learned.num_held_out == 1
    whole = prepare(chain, parts, (), base, None, 0)
    assert [whole.splits[d.document_id] for d in whole.documents] == ["train"] * 3


# --- a store --------------------------------------------------------------------------------------


def sides(store, document_id):
    """Return the kind and side of a document in each segment that holds it, the oldest first."""
    found = store.registry.documents("law")
    return [(d.kind, d.split) for d in found if d.document_id == document_id]


def test_a_held_out_fact_is_learned_asked_and_no_longer_measured(store, base):
    store.ingest("law", documents("law", 24), settings=SETTINGS)
    held, other, *_ = store.registry.documents("law", split="test", kind="text")
    text, again = (store.registry.document_text(one) for one in (held, other))
    with pytest.raises(
        CorpusError, match=r"all of it: 1 text \(0 learned, 1 held out\); .*--hold-out 0"
    ):
        store.ingest("law", [SourceDocument(text, "n", "n")], settings=SETTINGS)
    corpus = [*documents("law", 3, 7), *(SourceDocument(t, "n", "n") for t in (text, again))]
    report = store.ingest("law", corpus, facts=[fact_of(text)], settings=SETTINGS)
    assert (report.num_duplicates, report.num_twice, report.num_held_out) == (2, 1, 1)
    assert sides(store, held.document_id) == [("text", "test"), ("fact", "train")]
    registry = store.registry
    rows = registry.chain(registry.live().state("law").version)
    model, _ = store.load_base()
    model.detach()
    base.identity = model.identity
    assert held.document_id not in read_chain(registry, "law", rows, base).held_out_ids
    assert other.document_id in read_chain(registry, "law", rows, base).held_out_ids

    told = store.evaluate(background=False)
    assert {row["wording"] for row in told["recall"]} == {"seen", "reworded"}
    unseen = store.registry.documents("law", split="test", kind="text")
    assert [row["documents"] for row in told["mixture"]] == [len(unseen) - 1]

    erased = store.erase_exact("law", [held.document_id])
    assert (erased.num_kept, erased.num_retrained) == (0, 2)
    assert sides(store, held.document_id) == []
    assert store.registry.documents("law", kind="probe") == ()


def test_an_exact_erasure_divides_as_the_ingest_did(store):
    report = store.ingest("law", documents("law", 24), settings=ALL)
    assert report.num_documents == {"train": 24}
    with pytest.raises(StateError, match=r"no text of law is held out .*--hold-out"):
        store.evaluate(background=False)
    erased = store.erase_exact("law", [documents("law", 24)[0].document_id])
    assert {d.split for d in store.registry.documents("law")} == {"train"}
    run = store.registry.domain("law").runs[-1]
    assert run.config["hold_out_percent"] == 0
    assert erased.num_retrained == 1


def test_a_preview_tells_what_is_held_out_apart(store, tmp_path):
    store.ingest("law", documents("law", 24), settings=SETTINGS)
    held = store.registry.documents("law", split="test", kind="text")[0]
    text = store.registry.document_text(held)
    corpus, facts = tmp_path / "again.jsonl", tmp_path / "facts.jsonl"
    corpus.write_text(f'{{"text": "{text}"}}\n{{"text": "New."}}\n', encoding="utf-8")
    facts.write_text(json.dumps(dataclasses.asdict(fact_of(text))), encoding="utf-8")

    def counted(**told):
        found = preview(store, "law", corpus, **told)
        return found.num_new, found.num_known, found.num_held_out

    assert counted() == (1, 0, 1)
    assert counted(settings=ALL) == (2, 0, 0)
    assert counted(facts=facts) == (2, 0, 0)


def test_what_is_learned_since_counts_once_and_is_held_out_no_more(store):
    registry = store.registry
    store.ingest("law", documents("law", 24), settings=SETTINGS)
    before = registry.domain("law")
    held, *_ = registry.documents("law", split="test", kind="text")
    fact = fact_of(registry.document_text(held))
    store.ingest("law", documents("law", 2, 9), facts=[fact], settings=SETTINGS)
    between = registry.domain("law").summary
    assert between.num_held_out == before.summary.num_held_out - 1
    assert (between.num_facts, between.num_texts) == (1, before.summary.num_texts + 2)
    store.ingest("law", documents("law", 24), settings=ALL)
    after = registry.domain("law")
    assert after.summary.num_held_out == 0
    assert after.summary.num_documents == sum(after.documents_by_split.values())
    assert after.documents_by_kind == {"text": 25, "fact": 1, "probe": 1}
    assert after.documents_by_split == {"train": 26, "test": 1}, "a question is of the test side"
    store.roll_back("law")
    again = registry.domain("law").summary
    for name in ("num_documents", "num_texts", "num_facts", "num_held_out"):
        assert getattr(again, name) == getattr(between, name), name


def test_sections_of_two_ingests_stay_apart_whatever_was_learned_between_them(base):
    """Also after one that only learned what was held out, which brings no new document."""
    chain, held = grown(base, documents("law", 30))
    for _ in range(2):
        news = [dataclasses.replace(held, section_of="notes.md")]
        chain = chain.holding(prepare(chain, news, (), base, None, 0.0))
        (held,) = documents("law", 1, 40 + len(chain.known))
    named = [d.section_of for d, _ in chain.known if d.section_of]
    assert len(set(named)) == 2


def test_a_rewording_given_twice_is_read_once(base):
    (one,) = documents("law", 1)
    said = {one.document_id: ("So it is.", "So it is.", "Other.")}
    learned = prepare(Chain("law", None), [one], (), base, said, 0.0)
    assert learned.rewordings == {one.document_id: ("So it is.", "Other.")}
