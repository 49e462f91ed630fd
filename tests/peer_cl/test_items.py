"""Items are found by a subject and by what is asked about it, each by its own key alone."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from peer_cl.items import WINDOW, ItemIndex, RelationSpace, RelationStates
from peer_cl.own import NO_ITEM, Item, OwnExperts

WIDTH, POINTS = 8, 3
SEEDS = st.integers(0, 9999)


def draw(num, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(num))


TABLE = draw(0, 9, WIDTH)
"""The state that each token has, whatever stands before it."""
NORMALISED = normalize(TABLE, dim=-1)
SPACE = RelationSpace(
    (0,),
    draw(1, WIDTH, POINTS),
    draw(2, WIDTH, POINTS),
    draw(3, POINTS),
    torch.zeros(POINTS),
    threshold=0.3,
)


def states_of(ids, counted, threshold=0.3, present=None):
    present = torch.ones_like(counted) if present is None else present
    space = replace(SPACE, threshold=threshold)
    return RelationStates(space, {0: TABLE[ids]}, counted, present)


def index_of(*subjects, seed=0):
    """An index whose items have these subjects, each a tuple of names, and random keys."""
    items = [Item(str(n), names, 2) for n, names in enumerate(subjects)]
    keys = normalize(draw(seed, len(items), 2, POINTS), dim=-1)
    return ItemIndex([OwnExperts(items, keys, host_layers=(0,), width=1, num_experts=1)])


def text(*ids):
    return torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)


def places(index, ids, counted, threshold=-1.0, *, present=None, **options):
    found = index.find(states_of(ids, counted, threshold, present), ids, **options)
    return {(one.row, one.at): one.item for one in found}


def random_case(seed, sizes=(1, 2, 3)):
    """Two random texts of few tokens, of which some do not count, and an index."""
    pick = random.Random(seed)
    length = pick.choice([1, 3, 12, 50])
    ids = torch.tensor([[pick.randrange(4) for _ in range(length)] for _ in range(2)])
    counted = torch.tensor([[pick.random() < 0.9 for _ in range(length)] for _ in range(2)])
    counted[:, 0] = False  # nothing predicts it

    def name():
        return tuple(pick.randrange(4) for _ in range(pick.choice(sizes)))

    subjects = [(name(), name()) for _ in range(pick.randint(1, 4))]
    return ids, counted, index_of(*subjects, seed=seed)


# --- against the definition ---------------------------------------------------------------------


def scores_at(index, ids, counted, at):
    """By the definition: of one text, the items that may be asked for at a token, scored."""
    known = {0} | {n for n, counts in enumerate(counted) if counts}
    names = [
        (begin, begin + len(name), number)
        for number, item in enumerate(index.items)
        for name in item.subjects
        for begin in range(at - len(name) + 2)
        if ids[begin : begin + len(name)] == name
        and known.issuperset(range(begin, begin + len(name)))
    ]
    scores = []
    for begin, end, number in names:
        if begin <= at - WINDOW or any(
            low <= begin and end <= high and (low, high) != (begin, end) for low, high, _ in names
        ):
            continue
        window = range(max(0, at + 1 - WINDOW), at + 1)
        outside = [n for n in window if counted[n] and not begin <= n < end]
        states = NORMALISED[list(ids)]
        mean = states[outside].mean(0) if outside else torch.zeros(WIDTH)
        point = SPACE.points(states[at], mean)
        scores.append((float((index.relations[number] @ point).max()), number))
    return scores


def expected(index, ids, counted, threshold, ends=None):
    found = {}
    for row in range(len(ids)):
        for at in range(ids.shape[1]) if ends is None else [int(ends[row]) - 1]:
            scores = scores_at(index, tuple(ids[row].tolist()), counted[row].tolist(), at)
            # What lies as near to a limit as rounding may move it decides nothing.
            assume(all(abs(score - threshold) > 1e-4 for score, _ in scores))
            best = max(scores, default=(-2.0, NO_ITEM))
            rivals = [score for score, number in scores if number != best[1]]
            assume(all(best[0] - score > 1e-4 for score in rivals))
            if best[0] >= threshold:
                found[row, at] = best[1]
    return found


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_what_texts_ask_for_equals_the_definition(seed):
    ids, counted, index = random_case(seed)
    # Tried at every token of a text, an item has to come half way from the threshold to 1.
    assert places(index, ids, counted, 0.3) == expected(index, ids, counted, 0.65)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, is_given=st.booleans())
def test_what_prompts_ask_for_equals_the_definition(seed, is_given):
    """With `is_given` the nearest item that is named is found, whatever its score."""
    ids, counted, index = random_case(seed)
    ends = 1 + torch.randint(ids.shape[1], (2,), generator=torch.Generator().manual_seed(seed))
    found = places(index, ids, counted, 0.3, prompt_ends_B=ends, is_given=is_given)
    assert found == expected(index, ids, counted, -1.1 if is_given else 0.3, ends)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, data=st.data())
def test_a_later_token_never_changes_what_was_found_before(seed, data):
    ids, counted, index = random_case(seed)
    length = data.draw(st.integers(1, ids.shape[1]))
    whole = places(index, ids, counted, 0.3)
    prefix = places(index, ids[:, :length], counted[:, :length], 0.3)
    assert prefix == {place: item for place, item in whole.items() if place[1] < length}


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, num_left=st.integers(0, 5), num_right=st.integers(0, 5))
def test_padding_changes_nothing(seed, num_left, num_right):
    ids, counted, index = random_case(seed)
    ends = torch.full((2,), ids.shape[1])
    padded, padded_counted, present = (
        torch.nn.functional.pad(one, (num_left, num_right), value=0)
        for one in (ids, counted, torch.ones_like(counted))
    )
    for alone, moved in ((None, None), (ends, ends + num_left)):
        before = places(index, ids, counted, 0.3, prompt_ends_B=alone)
        after = places(index, padded, padded_counted, 0.3, present=present, prompt_ends_B=moved)
        assert after == {(row, at + num_left): item for (row, at), item in before.items()}


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_best_item_wins_and_none_moves_anothers_score(seed):
    """Names of one length, so that none stands within another."""
    ids, counted, index = random_case(seed, sizes=[2])
    states, best = states_of(ids, counted), {}
    for number, item in enumerate(index.items):
        alone = OwnExperts(
            [item], index.relations[number][None], host_layers=(0,), width=1, num_experts=1
        )
        for one in ItemIndex([alone]).find(states, ids):
            place, found = (one.row, one.at), one._replace(item=number)
            if place not in best or found.score >= best[place].score:
                best[place] = found
    assert index.find(states, ids) == [best[place] for place in sorted(best)]


# --- by hand ------------------------------------------------------------------------------------


def test_an_item_is_found_from_its_subjects_last_token_on_within_the_window():
    ids, counted = text(*[1] * 5, 7, 8, *[1] * 50)
    index = index_of(((7, 8),))
    assert list(places(index, ids, counted)) == [(0, at) for at in range(6, 5 + WINDOW)]
    prompt_ends = torch.tensor([5 + WINDOW])
    assert places(index, ids, counted, prompt_ends_B=prompt_ends)
    assert not places(index, ids, counted, prompt_ends_B=prompt_ends + 1)
    assert not places(index, ids, counted, prompt_ends_B=torch.tensor([6]))
    assert not places(index, ids, counted & (ids != 7))
    assert not places(index_of(((8, 7),)), ids, counted)


@pytest.mark.parametrize(
    ("ids", "found"), [((1, 7, 8, 1), 1), ((1, 7, 1, 1), 0), ((1, 1, 8, 1), 2)]
)
def test_of_names_within_others_the_longest_is_meant(ids, found):
    index = index_of(((7,),), ((7, 8),), ((8,),))
    assert places(index, *text(*ids))[0, 3] == found


def test_a_name_counts_until_a_longer_one_is_read():
    """What a text finds at a token must not depend on the next."""
    ids, counted = text(1, 7, 8, 1)
    assert places(index_of(((7,),), ((7, 8),)), ids, counted) == {(0, 1): 0, (0, 2): 1, (0, 3): 1}


@pytest.mark.parametrize("num_padding", [0, 3])
def test_a_text_may_begin_with_a_name(num_padding):
    """Nothing predicts its first token, so that it does not count."""
    ids, present = text(*[0] * num_padding, 7, 8, 1)
    present[:, :num_padding] = False
    counted = present & present.roll(1)
    found = places(index_of(((7, 8),)), ids, counted, present=present)
    assert (0, num_padding + 2) in found


def test_of_two_items_that_ask_for_the_same_the_later_is_found():
    items, keys = [Item(name, ((7,),), 2) for name in "ab"], torch.ones(2, 1, POINTS)
    index = ItemIndex([OwnExperts(items, keys, host_layers=(0,), width=1, num_experts=1)])
    assert places(index, *text(1, 7), threshold=-9.0) == {(0, 1): 1}


def test_an_item_is_active_behind_its_subject_or_for_as_long_as_its_answer():
    index = index_of(((7,),), ((8,),))
    ids, counted = text(1, 7, 1, 1, 8, 1)
    states = states_of(ids, counted, -1.0)
    (asked,) = index.find(states, ids, torch.tensor([4]))
    prompt = index.active([asked], ids.shape, is_prompt=True)
    assert prompt.tolist() == [[NO_ITEM, 0, 0, 0, 0, 0]]
    found = [one for one in index.find(states, ids) if one.at in (1, 4)]
    assert index.active(found[:1], ids.shape, is_prompt=False).tolist() == [[-1, 0, 0, -1, -1, -1]]
    later = [found[0], found[0]._replace(at=2, until=4, item=1)]
    assert index.active(later, ids.shape, is_prompt=False).tolist() == [[-1, 0, 1, 1, -1, -1]]


def test_a_prompt_that_is_near_to_everything_asks_for_nothing_in_particular():
    keys_KE = normalize(draw(7, 3, POINTS), dim=-1)
    usual = normalize(draw(8, POINTS), dim=0)
    space = replace(SPACE, usual_E=0.5 * usual)
    assert space.scores(keys_KE, keys_KE).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert SPACE.scores(usual, keys_KE) == (usual @ keys_KE.T).max()
    assert space.scores(usual, keys_KE) < SPACE.scores(usual, keys_KE)
