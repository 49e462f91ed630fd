"""The stream from end to end, on a tiny base and two tiny domains."""

from dataclasses import replace

import pytest
from tiny_base import background, make_tiny_base, sentences
from tiny_store import SETTINGS, documents

from benchmarks.corpora import StreamDomain
from benchmarks.corpora.frozen import document_key, text_key
from benchmarks.efficiency import blocks
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import METHODS, OURS, figures, of_items
from benchmarks.stream.run import Stream
from peer_cl.errors import StateError
from pipelines.batches import tokenise
from pipelines.facts import Relation

NAMES = ("law", "medicine")
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))


def domain(name):
    texts = [
        replace(document, split="test" if number % 4 == 0 else "train")
        for number, document in enumerate(documents(name, 24, seed=3))
    ]
    scored = tuple(document_key(document) for document in texts if document.split == "test")
    words = sentences(name, 2, seed=4)
    facts = tuple(OWNER.fact(f"the {name} {n}", one.split()[0]) for n, one in enumerate(words))
    return StreamDomain(name, tuple(texts), facts, scored)


def texts_of(prepared, tokenizer):
    found = {f"test/{one.name}": one.test for one in prepared}
    for one in prepared:
        rows = blocks(list(one.test.values()), tokenizer, length=40)
        found[f"blocks128/{one.name}"] = {text_key(f"{one.name}{n}"): r for n, r in enumerate(rows)}
    for group in ("prose/house", "near-domain/minerals"):
        texts = sentences("prose" if group.startswith("prose") else "minerals", 3, seed=9)
        rows = tokenise(tokenizer, texts)
        found[group] = {text_key(t): tuple(ids) for t, ids in zip(texts, rows, strict=True)}
    return found


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    stream = Stream(
        raw=RawFolder(folder / "raw"),
        work=folder / "work",
        names=NAMES,
        base_id=str(make_tiny_base(folder / "base")),
        load=domain,
        read_texts=texts_of,
        background=background(),
        settings=replace(SETTINGS, text_passes=1.0),
    )
    stream.run()
    return stream


def test_it_runs_and_its_figures_come_out(stream):
    stream.run()
    words = METHODS[OURS]
    found = {one.figure: one.value for one in figures(stream.raw)}
    assert found["base: recall, taught (share)"] < 0.5
    assert found["ours: recall, routed, taught (share)"] > 0.5
    assert 0 <= found["ours: right item first, threshold off, paraphrase (share)"] <= 1
    for way in ("oracle routing", "routed"):
        assert found[f"{words}, {way}: trained parameters, first domain"] > 0
        learned = found[f"{words}, {way}: unseen loss after learning (nats a token)"]
        assert learned < found["base: unseen loss (nats a token)"]
    pieces = stream.raw.read(OURS)["pieces"]
    for losses in (pieces["s0/mixture"]["whole"], pieces["s0/mixture"]["after_32"]):
        assert sum(losses["oracle"].values()) < sum(losses["base"].values())


def test_pieces_that_are_there_are_not_measured_again(stream, tmp_path):
    stream.run()
    before = stream.raw.read(OURS)
    replace(stream, work=tmp_path).run()
    assert stream.raw.read(OURS) == before
    assert not list(tmp_path.iterdir())


def test_other_texts_than_the_committed_ones_are_refused(stream):
    other = replace(stream, load=lambda name: replace(domain(name), facts=domain(name).facts[:1]))
    with pytest.raises(StateError, match="the questions about law"):
        _ = other.texts


def test_facts_alone_answer_as_they_do_beside_documents(stream):
    stream.run()
    beside = stream.raw.read(OURS)["pieces"]["s0/asked"]["recall"]
    piece, seconds = stream.facts_alone()
    for column in ("right_item", "item_found", "lookup"):
        assert piece["recall"][column] == beside[column]
    assert seconds > 0
    assert len([*of_items(stream.raw.base(), piece)]) > 10
    with stream.store(has_documents=False) as store:
        assert not store.registry.queries.documents("law", kind="text")
