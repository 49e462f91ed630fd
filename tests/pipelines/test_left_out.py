"""What came again to a later ingest counts in an exact erasure as if the erased had never come.

Most of it divides corpora without training, by the code that ingests and erasures prepare with:
thousands of stores would have to be trained otherwise.
"""

import json
import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from tiny_base import background, make_tiny_base, sentences, tiny_settings
from transformers import AutoTokenizer

from pipelines import SourceDocument, init_store, retraining
from pipelines.documents import SAID
from pipelines.facts import Fact
from pipelines.left_out import LeftOut
from pipelines.preparing import Chain, prepare
from pipelines.splits import split_documents

WORDS = [f"w{number}" for number in range(60)]
HOLD_OUT = (23.0, 23.0, 50.0, 0.0, 0.0, 90.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base of which only the tokenizer is used."""
    folder = make_tiny_base(tmp_path_factory.mktemp("base"))
    return SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(folder))


def a_text(draw, num=14):
    return " ".join(draw.choice(WORDS) for _ in range(num))


def drawn_ingests(draw, *, with_near):
    """Return corpora, facts and what is held out, one after the other, much of it given again."""
    pool = [a_text(draw) for _ in range(9)]
    if with_near:
        pool += [f"{draw.choice(pool)} x{number}" for number in range(3)]
    facts = []
    for n in range(6):
        fact = Fact(f"s{n}", "r", f"a{n}", f"The r of s{n} is a{n} w1 w2.", f"The r of s{n} is", ())
        facts += [fact, replace(fact, relation=f"{n}", reworded_prompts=(f"s{n}?",))]

    def document():
        text = draw.choice(pool) if draw.random() < 0.7 else a_text(draw)
        section = f"f{draw.randint(0, 4)}" if draw.random() < 0.4 else None
        titles = f"T{draw.randint(0, 3)}", f"s{draw.randint(0, 2)}"
        return SourceDocument(text, *titles, section_of=section)

    for _ in range(draw.randint(2, 4)):
        documents = [document() for _ in range(draw.randint(1, 7))]
        while draw.random() < 0.5:
            kind = draw.choice(["text", "text", "fact"])
            statement = draw.choice(facts).statement
            place = draw.randint(0, len(documents))
            documents.insert(place, SourceDocument(statement, "F", "s0", kind=kind))
        told = [draw.choice(facts) for _ in range(draw.randint(0, 4))]
        yield documents, told, draw.choice(HOLD_OUT)


def learned_one_after_the_other(base, ingests, gone):
    """Return what each ingest learns; None: it is refused, since it can train on nothing."""
    chain, found = Chain("law", None), []
    for documents, facts, percent in ingests:
        given = [d for d in documents if d.document_id not in gone]
        told = [f for f in facts if f.document("").document_id not in gone]
        learned = prepare(chain, given, told, base, None, percent)
        trains = bool(learned.of("train"))
        chain = chain.holding(learned) if trains else chain
        found.append(learned if trains else None)
    return found


def erased(base, found, gone):
    """Return what an exact erasure learns again, from what a store keeps of each ingest."""
    texts = {d.document_id: d for learned, _ in found for d in learned.documents}
    registry = SimpleNamespace(document_text=lambda document: document.text)
    readers = {
        key: partial(registry.document_text, d) for key, d in texts.items() if key not in gone
    }
    # A fact's questions go with it.
    gone = retraining._with_questions(registry, list(texts.values()), set(gone))
    chain, again = Chain("law", None), []
    for learned, percent in found:
        record = json.loads(json.dumps(learned.left_out.record()))
        others = LeftOut.recorded(record, readers)
        one = retraining._prepare_again(
            registry, chain, learned.documents, others, gone, base, percent
        )
        if one.of("train"):
            chain = chain.holding(one)
            again.append((one, percent))
    return again


def portrait(learned):
    """Return all of it that a segment depends on."""
    ids = [d.document_id for d in learned.documents]
    return (
        [(d.document_id, d.title, d.source, d.kind) for d in learned.documents],
        [(learned.splits[key], learned.near_groups[key]) for key in ids],
        list(learned.facts.items()),
    )


@pytest.mark.parametrize("with_near", [False, True])
def test_an_erasure_divides_what_is_left_as_if_the_erased_had_never_come(base, with_near):
    def never(gone):
        return [*map(portrait, filter(None, learned_one_after_the_other(base, ingests, gone)))]

    def left(found):
        return [portrait(learned) for learned, _ in found]

    num_with_others = num_twice = 0
    for seed in range(150):
        draw = random.Random(seed)
        drawn = list(drawn_ingests(draw, with_near=with_near))
        came = learned_one_after_the_other(base, drawn, gone=())
        # Of an ingest that was refused a store knows nothing.
        ingests = [ingest for ingest, learned in zip(drawn, came, strict=True) if learned]
        found = [(one, ingest[2]) for one, ingest in zip(filter(None, came), ingests, strict=True)]
        said = [d.document_id for learned, _ in found for d in learned.documents if d.kind in SAID]
        first, second = draw.choice(said), draw.choice(said)
        once = erased(base, found, {first})
        assert left(once) == never({first}), seed
        num_with_others += any(learned.left_out.record() for learned, _ in found)
        if len(once) == len(found) and first != second:
            num_twice += 1
            assert left(erased(base, once, {second})) == never({first, second}), seed
    assert num_with_others > 30
    assert num_twice > 30


def test_what_was_given_again_stays_held_out_in_a_real_store_too(tmp_path):
    """A section that is given again binds new ones, which are held out for its sake."""
    drawn = iter(sentences("law", 400, seed=5, num_words=14))

    def sections(*titles):
        return [
            SourceDocument(next(drawn), title, "notes.md", section_of="n.md") for title in titles
        ]

    others = [SourceDocument(next(drawn), f"o{n}", f"o{n}.txt") for n in range(8)]
    x = SourceDocument(next(drawn), "x", "x.txt")
    while split_documents([x]).split[x.document_id] != "train":
        x = SourceDocument(next(drawn), "x", "x.txt")
    old = sections("A", "B")
    while split_documents([*old, *others]).split[old[0].document_id] != "test":
        old = sections("A", "B")
    more = [old[0], *sections("B edited", "C"), SourceDocument(next(drawn), "new", "new.txt")]
    base = make_tiny_base(tmp_path / "base")
    sides, pools = [], []
    for name, first in (("saw", [x, *others, *old]), ("never", [*others, *old])):
        made = {"base": str(base), "capacity": 4, "background": background()}
        with init_store(tmp_path / name, **made) as store:
            store.ingest("law", first, settings=tiny_settings())
            again = replace(tiny_settings(), hold_out_percent=0.0)
            store.ingest("law", more, settings=again)
            if name == "saw":
                assert store.erase_exact("law", x.document_id).num_retrained == 2
            documents = store.registry.documents("law")
            sides.append([(d.title, d.split) for d in documents])
            chain = store.registry.chain(store.registry.live().state("law").version)
            pools.append([segment.pool_object for segment in chain])
    assert ("C", "test") in sides[0]
    assert sides[0] == sides[1]
    assert pools[0] == pools[1]


def test_a_fact_of_a_text_that_was_learned_is_taught_where_the_text_is_held_out_now(base):
    """Its words are not otherwise kept: the record has them, where it stood, of all its lines."""

    def fact(name, *questions):
        said = f"{name} has badge {len(name)} and a desk."
        return Fact(name, "badge", str(len(name)), said, f"{name} has badge", questions)

    def is_held_out(*documents):
        return split_documents(documents).split[documents[0].document_id] != "train"

    others = [SourceDocument(f"Another text {n}.", f"o{n}", "s") for n in range(6)]
    text = next(
        SourceDocument(fact(name).statement, name, "s", section_of="f")
        for name in (f"Kim{n}" for n in range(1000))
        if is_held_out(SourceDocument(fact(name).statement, name, "s"), *others)
    )
    beside = next(
        one
        for one in (SourceDocument(f"Beside {n}.", "x", "s", section_of="f") for n in range(1000))
        if not is_held_out(text, one, *others)
    )
    first, last = fact("Ann", "Ann's?"), fact("Zoe")
    told = [first, fact("Ann"), fact(text.title), fact(text.title, "Its badge?"), last]
    ingests = [
        ([beside, text, *others], [], 23.0),
        ([SourceDocument("New.", "n", "s")], told, 23.0),
    ]
    found = [(one, 23.0) for one in learned_one_after_the_other(base, ingests, gone=())]
    assert text.document_id not in found[1][0].facts
    again = [one for one, _ in erased(base, found, {beside.document_id})]
    never = learned_one_after_the_other(base, ingests, {beside.document_id})
    assert [*map(portrait, again)] == [*map(portrait, never)]
    assert text.document_id in again[1].facts


def test_a_record_without_what_was_left_out_is_one_of_before():
    assert LeftOut.recorded({"seed": 0}, {}) == LeftOut()
    assert LeftOut().record() == {}


def test_a_store_that_keeps_no_texts_records_nothing(base):
    """Nothing can be erased exactly from it, and it says no more of texts than it has to."""
    texts = [SourceDocument(f"Text number {n}.", f"t{n}", "s") for n in range(40)]
    first = prepare(Chain("law", None), texts, [], base, None, 23.0)
    chain = Chain("law", None).holding(first)
    more = [*texts, SourceDocument("New.", "n", "s")]
    assert prepare(chain, more, [], base, None, 23.0).left_out.texts
    without = replace(chain, known=())
    assert without.held_out_ids
    assert prepare(without, more, [], base, None, 0.0).left_out == LeftOut()
