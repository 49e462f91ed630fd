import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpora import SourceDocument
from pipelines.splits import near_copies, near_groups, percentages, split_documents

WORDS = [f"word{number}" for number in range(400)]


def a_text(seed, num_words=40):
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def documents(num, **fields):
    return [SourceDocument(a_text(seed), f"t{seed}", "s", **fields) for seed in range(num)]


def near(document, **fields):
    return SourceDocument(f"{document.text} end", "n", "s", **fields)


def test_the_numbers_come_near_to_the_percentages():
    test, validation = percentages(30)
    sides = list(split_documents(documents(1500), (), test, validation).split.values())
    assert sides.count("test") == pytest.approx(1500 * 0.3 * 18 / 23, abs=60)
    assert sides.count("validation") == pytest.approx(1500 * 0.3 * 5 / 23, abs=45)


def test_near_duplicates_and_sections_are_on_one_side():
    originals = documents(60)
    parts = [SourceDocument(a_text(99 + n), "t", "s", section_of=f"b{n % 20}") for n in range(60)]
    given = [*originals[10:], *map(near, originals[10:]), *parts]
    split = split_documents(given, (), 40).split
    for one in originals[10:]:
        assert split[one.document_id] == split[near(one).document_id]
    for book in range(20):
        assert len({split[part.document_id] for part in parts[book::20]}) == 1
    assert {"train", "test"} <= {split[part.document_id] for part in parts}


@settings(max_examples=10)
@given(st.randoms(), st.integers(1, 40))
def test_a_document_keeps_its_side_whatever_comes_with_it_and_in_whatever_order(rng, num):
    everything = documents(40)
    whole = split_documents(everything)
    some = split_documents(rng.sample(everything, num))
    if any(whole.split[one] == "train" for one in some.split):
        assert some.split.items() <= whole.split.items()
    else:
        assert set(some.split.values()) == {"train"}
    assert some.near_group.items() <= whole.near_group.items()


def test_near_duplicates_are_found_where_no_blanks_part_words():
    text = (
        "海は冷たく、北の風は強い。港には古い船が三隻つながれていて、漁師たちは朝早く出かける。"
        "昼には市場で魚を売り、夕方には網をつくろいながら昔の嵐の話をする。"
    )
    one, copy = (SourceDocument(t, "t", "s") for t in (text, text.replace("三隻", "四隻")))
    other = SourceDocument("山の村では秋になると栗を拾い、冬のあいだ火のそばで焼いて", "o", "s")
    groups = near_groups([one, copy, other])
    assert groups[one.document_id] == groups[copy.document_id] != groups[other.document_id]


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_what_is_near_to_a_known_document_takes_its_side(side):
    known = documents(40)
    parts = [SourceDocument(a_text(900 + n), "n", "s", section_of="book") for n in range(10)]
    book = SourceDocument(a_text(899), "t", "book", section_of="book")
    new = [*map(near, known), *parts]
    found = split_documents(new, [(document, side) for document in [*known, book]]).split
    assert set(found) == {document.document_id for document in new}
    assert set(found.values()) == {side}
    assert len(set(split_documents(new).split.values())) > 1


def test_what_is_near_to_documents_of_both_sides_is_not_trained_on():
    first = SourceDocument(a_text(1, 80), "t", "s")
    third = SourceDocument(f"start {first.text}", "t", "s")
    for sides in (("train", "test"), ("test", "train")):
        known = list(zip((first, near(first)), sides, strict=True))
        assert split_documents([third], known).split == {third.document_id: "test"}


def test_a_stated_split_holds_whatever_is_near_and_binds_what_states_none():
    (first,), stated = documents(1), {"split": "train"}
    known = [(SourceDocument(f"start {first.text}", "t", "s"), "test")]
    held = [SourceDocument(d.text, "t", "s", split="test") for d in documents(30)[1:]]
    learned = near(first, **stated)
    free = [near(document) for document in held]
    found = split_documents([learned, *held, *free], known).split
    assert found.pop(learned.document_id) == "train"
    assert set(found.values()) == {"test"}
    section = SourceDocument(a_text(77), "t", "s", section_of="book", split="validation")
    other = SourceDocument(a_text(78), "t", "s", section_of="book", split="train")
    found = split_documents([section, other]).split
    assert found == {section.document_id: "validation", other.document_id: "train"}


def test_a_lone_text_is_learned_whatever_its_hash_says_unless_something_binds_it():
    for document in documents(30):
        assert split_documents([document]).split == {document.document_id: "train"}
    parts = [SourceDocument(a_text(n), "t", "s", section_of="handbook.md") for n in range(20)]
    assert set(split_documents(parts, test_percent=90).split.values()) == {"train"}
    (known,) = documents(1)
    copy = near(known)
    assert split_documents([copy], [(known, "test")]).split == {copy.document_id: "test"}


def by_pairs(found):
    """Return each document's group by comparing every pair, as the plain definition has it."""

    def shingles(text):
        words = text.split()
        return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}

    sets = {document.document_id: shingles(document.text) for document in found}
    groups = {one: {one} for one in sets}
    for one, other in combinations(found, 2):
        first, second = sets[one.document_id], sets[other.document_id]
        is_near = 5 * len(first & second) >= 4 * len(first | second)
        if is_near or (one.section_of is not None and one.section_of == other.section_of):
            merged = groups[one.document_id] | groups[other.document_id]
            groups |= dict.fromkeys(merged, merged)
    return {one: min(group) for one, group in groups.items()}


def changed_text(text, rng):
    """A text with a word put in, left out or replaced, or two."""
    words = text.split()
    for _ in range(rng.choice([1, 1, 1, 2])):
        place = rng.randrange(len(words))
        words[place : place + rng.randrange(2)] = rng.choice([[], [rng.choice(WORDS)], ["0"]])
    return " ".join(words)


@pytest.mark.parametrize("seed", range(6))
def test_groups_of_copies_of_copies_and_of_sections_are_those_of_every_pair(seed):
    """Each copy is of an original or of another copy, so that links go through many."""
    rng = random.Random(seed)
    texts = [a_text(rng.random(), rng.randrange(5, 120)) for _ in range(6)]
    texts += [f"{a_text(0, 60)} {a_text(rng.random(), 16)}" for _ in range(6)]
    while len(texts) < 120:
        texts.append(changed_text(rng.choice(texts[-rng.choice([5, 120]) :]), rng))
    texts = list(dict.fromkeys(text for text in texts if text))
    books = [rng.choice(["a", "b", *[None] * 20]) for _ in texts]
    found = [
        SourceDocument(text, "t", "s", section_of=book)
        for text, book in zip(texts, books, strict=True)
    ]
    assert near_groups(rng.sample(found, len(found))) == by_pairs(found)


def test_near_copies_are_found_among_many_texts_and_none_is_invented():
    held = {document.title: document.text for document in documents(40)}
    learned = [text.upper() + "!" for text in list(held.values())[:10]]
    others = [f"{text[: len(text) // 2]} {a_text(2000)}" for text in held.values()]
    assert near_copies(held, [*others, *learned]) == set(list(held)[:10])
