"""The stream from end to end, on a tiny base and two tiny domains."""

from dataclasses import replace

import pytest
from tiny_base import background, make_tiny_base, sentences
from tiny_store import SETTINGS, documents

from benchmarks.corpora import StreamDomain
from benchmarks.corpora.frozen import document_key, text_key
from benchmarks.efficiency import blocks
from benchmarks.stream.data import replayed
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import METHODS, figures, lines
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
    return Stream(
        raw=RawFolder(folder / "raw"),
        work=folder / "work",
        names=NAMES,
        base_id=str(make_tiny_base(folder / "base")),
        load=domain,
        read_texts=texts_of,
        background=background(),
        settings=replace(SETTINGS, text_passes=1.0, fact_passes=2.0),
    )


@pytest.mark.parametrize("method", ["peer", "lora-mixture", "lora", "lora-replay", "osf", "full"])
def test_a_method_runs_and_its_figures_come_out(stream, method):
    stream.run(method)
    words = {line.words: line for line in lines(stream.raw) if METHODS[method] in line.words}
    assert len(words) == (3 if method in ("peer", "lora-mixture") else 1)
    for line in words.values():
        assert len(line.losses) == 3
        assert line.num_parameters[0] > 0
        if "oracle" in line.words or method == "lora":
            assert line.losses[1][0] < line.losses[0][0], "the first domain was learned"
    assert any(METHODS[method] in one.figure for one in figures(stream.raw))


def test_pieces_that_are_there_are_not_measured_again(stream, tmp_path):
    stream.run("lora")
    before = stream.raw.read("lora")
    again = replace(stream, work=tmp_path)  # nothing there to go on from
    again.run("lora")
    assert stream.raw.read("lora") == before
    del before.pieces["s0/1-medicine"]
    stream.raw.write(before)
    with pytest.raises(StateError, match="is gone, which lora continues"):
        again.run("lora")


def test_other_texts_than_the_committed_ones_are_refused(stream):
    stream.run("lora")
    other = replace(stream, load=lambda name: replace(domain(name), facts=domain(name).facts[:1]))
    with pytest.raises(StateError, match="the questions about law"):
        _ = other.texts


def test_replay_adds_steps_of_earlier_domains(stream):
    law, medicine = stream.prepared
    seen = replayed(medicine, [law], share=0.5, seed=0)
    assert len(seen.steps) == min(2 * len(medicine.steps), len(medicine.steps) + len(law.steps))
    own = [step for step in seen.steps if max(step) < len(medicine.rows)]
    assert own == list(medicine.steps)
