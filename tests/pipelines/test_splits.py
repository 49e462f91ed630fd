import random
import sys
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import InputError
from pipelines import splits as splits_module
from pipelines.documents import SourceDocument
from pipelines.splits import near_copies, near_groups, split_documents

WORDS = [f"word{number}" for number in range(400)]


def a_text(seed, num_words=40):
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def documents(num, **fields):
    return [SourceDocument(a_text(seed), f"t{seed}", "s", **fields) for seed in range(num)]


def test_the_shares_come_near_to_the_percentages():
    splits = split_documents(documents(1500), test_percent=20, validation_percent=10)
    sides = list(splits.split.values())
    assert sides.count("test") == pytest.approx(300, abs=60)
    assert sides.count("validation") == pytest.approx(150, abs=45)


@settings(max_examples=10, deadline=None)
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


def test_near_duplicates_are_on_one_side_and_merely_related_texts_are_not():
    originals = documents(60)
    # One word of forty changed: 5 of 36 shingles differ, a Jaccard of 0.76 to 0.87 by place.
    nearly = [SourceDocument(d.text + " end", "n", "s") for d in originals]
    related = [
        SourceDocument(f"{d.text[: len(d.text) // 2]} {a_text(1000 + i)}", "r", "s")
        for i, d in enumerate(originals)
    ]
    splits = split_documents([*originals, *nearly, *related], test_percent=40)
    for original, near, other in zip(originals, nearly, related, strict=True):
        assert splits.split[original.document_id] == splits.split[near.document_id]
        assert splits.near_group[original.document_id] == splits.near_group[near.document_id]
        assert splits.near_group[original.document_id] != splits.near_group[other.document_id]


def test_near_duplicates_are_found_where_no_blanks_part_words():
    text = (
        "海は冷たく、北の風は強い。港には古い船が三隻つながれていて、漁師たちは朝早く出かける。"
        "昼には市場で魚を売り、夕方には網をつくろいながら昔の嵐の話をする。"
    )
    near = SourceDocument(text.replace("三隻", "四隻"), "n", "s")
    other = SourceDocument(
        "山の村では秋になると栗を拾い、冬のあいだ火のそばで焼いて食べる習わしがある。", "o", "s"
    )
    one = SourceDocument(text, "t", "s")
    groups = near_groups([one, near, other])
    assert groups[one.document_id] == groups[near.document_id] != groups[other.document_id]


def test_sections_of_one_document_are_on_one_side():
    parts = [
        SourceDocument(a_text(seed), "t", "s", section_of=f"book {seed % 20}")
        for seed in range(100)
    ]
    splits = split_documents(parts, test_percent=40)
    for book in range(20):
        assert len({splits.split[part.document_id] for part in parts[book::20]}) == 1
    assert len(set(splits.split.values())) > 1


def test_links_carry_over_and_the_group_is_named_by_its_smallest_id():
    first, second, third = documents(3)
    first = SourceDocument(first.text, "t", "s", section_of="a")
    copy = SourceDocument(f"{first.text} end", "t", "s", section_of="b")
    third = SourceDocument(third.text, "t", "s", section_of="b")
    group = split_documents([first, second, copy, third]).near_group
    linked = [first.document_id, copy.document_id, third.document_id]
    assert {group[document_id] for document_id in linked} == {min(linked)}
    assert group[second.document_id] == second.document_id


def test_facts_are_trained_on_and_a_text_near_to_one_goes_with_it():
    facts = documents(50, kind="fact")
    texts = [SourceDocument(f"{fact.text} end", "t", "s") for fact in facts]
    splits = split_documents([*facts, *texts], test_percent=90)
    assert set(splits.split.values()) == {"train"}
    held = [(text, "test") for text in texts]
    assert set(split_documents(facts, known=held).split.values()) == {"train"}
    known = [(fact, "train") for fact in facts]
    later = split_documents(texts, known=known, test_percent=90)
    assert set(later.split.values()) == {"train"}, "nor does a fact of an earlier ingest"


def test_probes_are_never_trained_on():
    splits = split_documents(documents(50, kind="probe"))
    assert set(splits.split.values()) == {"test"}


@pytest.mark.parametrize("text", ["", " ", "one", "!?"])
def test_tiny_texts_have_a_side_too(text):
    assert len(split_documents([SourceDocument(text, "t", "s")]).split) == 1


def test_no_documents_are_no_error():
    assert split_documents([]).split == {}


@pytest.mark.parametrize(("test", "validation"), [(100, 0), (60, 40), (-1, 5), (5, -1)])
def test_percentages_that_leave_nothing_are_refused(test, validation):
    with pytest.raises(InputError, match="together below 100"):
        split_documents([], test_percent=test, validation_percent=validation)


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_what_is_near_to_a_known_document_takes_its_side(side):
    known = documents(40)
    near = [SourceDocument(f"new {d.text}", "n", "s") for d in known]
    part = [SourceDocument(a_text(900 + n), "n", "s", section_of="book") for n in range(10)]
    book = SourceDocument(a_text(899), "t", "book", section_of="book")
    sides = [(document, side) for document in [*known, book]]
    found = split_documents([*near, *part], known=sides).split
    assert set(found) == {document.document_id for document in [*near, *part]}
    assert set(found.values()) == {side}
    alone = split_documents([*near, *part]).split
    assert len(set(alone.values())) > 1


def test_what_is_near_to_documents_of_both_sides_is_not_trained_on():
    first = SourceDocument(a_text(1, 80), "t", "s")
    second = SourceDocument(f"{first.text} end", "t", "s")
    third = SourceDocument(f"start {first.text}", "t", "s")
    for known in ([(first, "train"), (second, "test")], [(first, "test"), (second, "train")]):
        assert split_documents([third], known=known).split == {third.document_id: "test"}


def test_a_lone_text_is_learned_whatever_chance_says():
    for document in documents(30):
        assert split_documents([document]).split == {document.document_id: "train"}
    parts = [SourceDocument(a_text(n), "t", "s", section_of="handbook.md") for n in range(20)]
    assert set(split_documents(parts, test_percent=90).split.values()) == {"train"}
    fact = SourceDocument("The fact is this.", "f", "s", kind="fact")
    assert set(split_documents([*parts, fact], test_percent=90).split.values()) == {"train"}


def test_what_known_documents_bind_stays_held_out_even_alone():
    known, near = documents(1)[0], SourceDocument(f"{a_text(0)} end", "n", "s")
    assert split_documents([near], known=[(known, "test")]).split == {near.document_id: "test"}
    assert split_documents([near], known=[(known, "train")]).split == {near.document_id: "train"}


@pytest.fixture
def compared(monkeypatch):
    """An entry for each pair of documents that was compared."""
    pairs, is_near = [], splits_module._is_near
    monkeypatch.setattr(splits_module, "_is_near", lambda *pair: pairs.append(1) or is_near(*pair))
    return pairs


def copies(num, fill):
    """Copies of a form, with other words in some places each."""
    found = []
    for number in range(num):
        words = [*a_text(1, 80).split(), "end"]
        for place, word in fill(number, random.Random(number)).items():
            words[place] = word
        found.append(SourceDocument(" ".join(words), "t", "s"))
    return found


FORMS = {
    "a number at the end": lambda number, rng: {80: f"{number}"},
    "a number that three have": lambda number, rng: {80: f"{number // 3}", 40: f"t{number % 3}"},
    "a word of its own anywhere": lambda number, rng: {rng.randrange(81): f"own{number}"},
    "a name, a city and a status": lambda number, rng: {
        10: f"name{number}",
        30: f"city{rng.randrange(4)}",
        50: f"status{rng.randrange(3)}",
    },
}


@pytest.mark.parametrize("fill", FORMS.values(), ids=FORMS)
def test_groups_of_many_copies_are_those_of_every_pair_compared(fill):
    texts = [document.text for document in copies(90, fill)]
    assert near_group([SourceDocument(text, "t", "s") for text in texts]) == by_pairs(texts)


@pytest.mark.parametrize("fill", FORMS.values(), ids=FORMS)
def test_of_many_copies_of_a_form_few_pairs_are_compared(compared, fill):
    near_group(copies(200, fill))
    assert len(compared) < 2 * 200


@pytest.mark.parametrize("fill", FORMS.values(), ids=FORMS)
def test_four_times_as_many_copies_take_about_four_times_as_many_calls(fill):
    """It was 6 to 9 times as many here: each copy looked at all earlier ones."""

    def num_calls(documents):
        calls, before = [], sys.getprofile()
        sys.setprofile(lambda frame, event, told: calls.append(1) if event == "call" else None)
        try:
            near_group(documents)
        finally:
            sys.setprofile(before)
        return len(calls)

    assert num_calls(copies(400, fill)) < 5 * num_calls(copies(100, fill))


def test_a_held_out_copy_is_not_looked_at_again_once_it_is_found():
    class Key(str):
        num_looks = 0

        def __hash__(self):
            Key.num_looks += 1
            return super().__hash__()

    def num_looks(num):
        texts = [document.text for document in copies(num, FORMS["a number at the end"])]
        held = {Key(number): text for number, text in enumerate(texts[::5])}
        Key.num_looks = 0
        assert near_copies(held, [text for text in texts if text not in held.values()]) == set(held)
        return Key.num_looks

    assert num_looks(800) < 5 * num_looks(200), "it was 16 times as many"


def test_of_many_documents_with_a_form_in_common_none_are_compared(compared):
    """Each pair shares two thirds of its shingles: every one was compared with every other."""
    form = a_text(0, 100)
    own = [" ".join(f"own{number}x{place}" for place in range(20)) for number in range(60)]
    found = split_documents([SourceDocument(f"{form} {words}", "t", "s") for words in own])
    assert (compared, len(set(found.near_group.values()))) == ([], 60)


TEXTS = st.lists(
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=14).map(" ".join),
    min_size=2,
    max_size=12,
    unique=True,
)


def shingles(text):
    words = text.split()
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def by_pairs(texts, sections=()):
    """Return each document's group by comparing every pair, as the plain definition has it."""
    ids = {SourceDocument(text, "t", "s").document_id: shingles(text) for text in texts}
    linked = [
        (one, other)
        for (one, first), (other, second) in combinations(ids.items(), 2)
        if 5 * len(first & second) >= 4 * len(first | second)
    ]
    groups = {one: {one} for one in ids}
    for one, other in [*linked, *sections]:
        merged = groups[one] | groups[other]
        groups |= dict.fromkeys(merged, merged)
    return {one: min(group) for one, group in groups.items()}


def near_group(documents):
    return split_documents(documents).near_group


@given(TEXTS, st.data())
def test_groups_are_those_of_every_pair_compared(texts, data):
    """Texts of few words, and copies of them that lack or gain one, so that many are near."""
    changed = [text + data.draw(st.sampled_from([" a", " g", ""])) for text in texts]
    every = list(dict.fromkeys([*texts, *changed]))
    assert near_group([SourceDocument(text, "t", "s") for text in every]) == by_pairs(every)


def changed_text(text, rng):
    """A text with a word put in, left out or replaced, or two."""
    words = text.split()
    for _ in range(rng.choice([1, 1, 1, 2])):
        place = rng.randrange(len(words))
        words[place : place + rng.randrange(2)] = rng.choice([[], [rng.choice(WORDS)], ["0"]])
    return " ".join(words)


@pytest.mark.parametrize("seed", range(12))
def test_groups_of_copies_of_copies_and_of_sections_are_those_of_every_pair(seed):
    """Each copy is of an original or of another copy, so that links go through many."""
    rng = random.Random(seed)
    texts = [a_text(rng.random(), rng.randrange(5, 120)) for _ in range(6)]
    texts += [f"{a_text(0, 60)} {a_text(rng.random(), 16)}" for _ in range(6)]
    while len(texts) < 120:
        texts.append(changed_text(rng.choice(texts[-rng.choice([5, 120]) :]), rng))
    texts = list(dict.fromkeys(text for text in texts if text))
    rng.shuffle(texts)
    books = [rng.choice(["a", "b", *[None] * 20]) for _ in texts]
    documents = [
        SourceDocument(text, "t", "s", section_of=book)
        for text, book in zip(texts, books, strict=True)
    ]
    sections = [
        (one.document_id, other.document_id)
        for one, other in combinations(documents, 2)
        if one.section_of is not None and one.section_of == other.section_of
    ]
    found = near_group(documents)
    assert found == by_pairs(texts, sections)
    sizes = Counter(found.values())
    assert len(sizes) > 10
    assert max(sizes.values()) > 5
