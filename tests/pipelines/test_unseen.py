"""What is measured as unseen was learned by no live pool, in these words or nearly these."""

import random

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from pipelines.documents import SourceDocument, document_id
from pipelines.facts import Fact
from pipelines.pinned import learned_order
from pipelines.splits import _is_near, _shingles, near_copies
from pipelines.unseen import held_out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("unseen"), ("law",))


def looked(store):
    """Return by domain what is measured, and what is not, as texts."""
    registry = store.registry
    found = held_out(registry, learned_order(registry, registry.live()))
    return {
        name: (sorted(own.texts.values()), sorted(own.near_learned)) for name, own in found.items()
    }


def fact(statement):
    """Return a fact whose statement is a text, less its full stop."""
    said = statement.rstrip(".")
    prompt, _, answer = said.rpartition(" ")
    return Fact(said.split()[0], "end", answer, said, prompt, ())


def learn_statement(store, text):
    """Have the domain learn a fact whose statement is a text, less its full stop."""
    store.ingest(
        "law",
        documents(sentences("law", 12, seed=8), "more"),
        facts=[fact(text)],
        settings=tiny_settings(),
    )


def documents(texts, name):
    return [SourceDocument(text, f"{name} {n}", f"{name}.jsonl") for n, text in enumerate(texts)]


def test_all_that_is_held_out_is_unseen_at_first(store):
    ((texts, near),) = looked(store).values()
    assert len(texts) >= 3
    assert near == []


def test_a_statement_that_is_nearly_a_held_out_text_makes_it_seen(store):
    ((before, _),) = looked(store).values()
    learn_statement(store, before[0])
    after, near = looked(store)["law"]
    assert before[0] not in after
    assert set(before[1:]) <= set(after)
    assert near == [document_id(before[0])]


def test_another_domain_s_copies_with_other_marks_make_it_seen(store):
    ((before, _),) = looked(store).values()
    copies = [text.replace(".", "!").upper() for text in before[:2]]
    store.ingest(
        "medicine",
        documents([*copies, *sentences("medicine", 20, seed=3)], "medicine"),
        settings=tiny_settings(),
    )
    texts, near = looked(store)["law"]
    learned = store.registry.documents("medicine", split="train")
    said = {store.registry.document_text(document) for document in learned}
    trained = [text for text, copy in zip(before, copies, strict=False) if copy in said]
    assert trained, "chance held out all copies: choose another seed"
    assert texts == sorted(set(before) - set(trained))
    assert near == sorted(map(document_id, trained))


def test_a_text_that_was_read_as_a_rewording_of_another_is_seen(store):
    ((before, _),) = looked(store).values()
    more = documents(sentences("minerals", 20, seed=5), "minerals")
    store.ingest(
        "minerals",
        more,
        rewordings={one.document_id: (before[1].rstrip("."),) for one in more},
        settings=tiny_settings(),
    )
    texts, near = looked(store)["law"]
    assert texts == sorted(set(before) - {before[1]})
    assert near == [document_id(before[1])]


def test_what_a_held_out_text_would_be_in_other_words_was_read_by_nobody(store):
    """It is kept for the day on which the text is learned."""
    more = documents(sentences("minerals", 20, seed=5), "minerals")
    store.ingest(
        "minerals",
        more,
        rewordings={one.document_id: (one.text.rstrip("."),) for one in more},
        settings=tiny_settings(),
    )
    texts, near = looked(store)["minerals"]
    assert texts
    assert near == []


def test_an_evaluation_leaves_them_out_and_says_so(store):
    ((before, _),) = looked(store).values()
    learn_statement(store, before[0])
    report = store.evaluate(background=False)
    assert report["near_learned"] == {"law": [document_id(before[0])]}
    measured, _ = looked(store)["law"]
    assert report["mixture"][0]["documents"] == len(measured)


def test_near_copies_are_those_that_a_comparison_of_all_with_all_finds():
    draw = random.Random(4)
    words = [f"w{n}" for n in range(30)]

    def text(num):
        return " ".join(draw.choices(words, k=num))

    def changed(one):
        parts = one.split()
        for _ in range(draw.randint(0, 3)):
            parts[draw.randrange(len(parts))] = draw.choice(words)
        return " ".join(parts[: draw.randint(len(parts) - 3, len(parts))])

    held = {str(n): text(draw.randint(4, 40)) for n in range(120)}
    others = [changed(draw.choice(list(held.values()))) for _ in range(150)]
    others += [text(draw.randint(4, 40)) for _ in range(150)]
    expected = {
        key
        for key, one in held.items()
        if any(_is_near(_shingles(one), _shingles(other)) for other in others)
    }
    assert near_copies(held, others) == expected
    assert 10 < len(expected) < 110
