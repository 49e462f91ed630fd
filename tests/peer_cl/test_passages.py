"""Passages are found by what a text repeats of them, causally, and none changes another."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.passages import GIVEN_BAR, PROMPT_BAR, TEXT_BAR, WINDOW, PassageIndex, token_pairs

NATS = 8.0
START = 0


def passage(first, length=60):
    """Token ids of a text whose tokens stand nowhere else, the start token first."""
    return [START, *range(first, first + length)]


TEXTS = [torch.tensor(passage(first)) for first in (100, 200, 300)]


def find(index, ids, masked=(), bar=TEXT_BAR):
    ids_BT = torch.tensor([ids])
    counted = torch.ones_like(ids_BT).bool()
    counted[0, [0, *masked]] = False
    return index.find(ids_BT, counted, torch.full(ids_BT.shape, NATS, dtype=torch.float64), bar)


def at_each_token(runs, num_tokens):
    found = [None] * num_tokens
    for run in runs:
        found[run.at : run.until] = [run.passage] * (run.until - run.at)
    return found


def test_a_text_that_repeats_a_passage_finds_it_within_its_first_tokens():
    (run,) = find(PassageIndex(TEXTS), passage(200))
    assert (run.passage, run.until, run.score) == (1, 61, 1.0)
    needed = TEXT_BAR.share * TEXT_BAR.nats / (2 * NATS)
    assert needed <= run.at - 1 < needed + 1
    assert run.at < WINDOW


def test_from_one_passage_to_another():
    runs = find(PassageIndex(TEXTS), [*passage(100), *passage(300)[1:]])
    assert [run.passage for run in runs] == [0, 2]
    assert 60 <= runs[0].until <= runs[1].at < 60 + WINDOW


def test_a_passage_is_found_in_its_middle_and_left_behind_it():
    other = list(range(900, 900 + 2 * WINDOW))
    (run,) = find(PassageIndex(TEXTS), [START, *other, *passage(100)[20:60], *other])
    assert run.passage == 0
    assert run.until < 1 + len(other) + 40 + WINDOW


def test_other_text_finds_nothing_and_neither_do_single_tokens():
    index = PassageIndex(TEXTS)
    assert not find(index, passage(500))
    assert not find(index, [START, *passage(100)[:0:-1]])
    assert not find(PassageIndex([]), passage(100))


def test_tokens_that_are_no_evidence_are_none():
    assert not find(PassageIndex(TEXTS), passage(100), masked=range(61))


def test_of_two_that_are_as_near_the_newer_is_found():
    (run,) = find(PassageIndex([TEXTS[0], TEXTS[0]]), passage(100))
    assert run.passage == 1


texts = st.lists(st.integers(1, 12), min_size=2, max_size=90).map(lambda ids: [START, *ids])


@settings(max_examples=60, deadline=None)
@given(texts, st.lists(texts, min_size=1, max_size=4), st.integers(2, 90))
def test_what_is_found_depends_neither_on_later_tokens_nor_on_other_passages(text, others, cut):
    keys = [torch.tensor(one) for one in [text[: len(text) // 2 + 2], *others]]
    whole = at_each_token(find(PassageIndex(keys), text), len(text))
    cut = min(cut, len(text))
    assert at_each_token(find(PassageIndex(keys), text[:cut]), cut) == whole[:cut]
    # Each alone is found wherever it is the nearest, with the same score.
    alone = [at_each_token(find(PassageIndex([key]), text), len(text)) for key in keys]
    for place, found in enumerate(whole):
        is_found = [one[place] is not None for one in alone]
        assert (found is not None) == any(is_found)
        assert found is None or is_found[found]


@pytest.mark.parametrize("ids", [[START, 1], [START, 1, 2, 1, 2]])
def test_pairs_are_of_neighbours_without_the_start(ids):
    pairs = {(int(one) >> 32, int(one) & 0xFFFFFFFF) for one in token_pairs(torch.tensor(ids))}
    assert pairs == {*pairwise(ids[1:])}


def test_a_prompt_of_a_few_tokens_finds_what_it_repeats_and_scored_text_needs_more():
    index = PassageIndex(TEXTS)
    beginning = passage(200)[: 2 + math.ceil(PROMPT_BAR.share * PROMPT_BAR.nats / (2 * NATS))]
    assert not find(index, beginning)
    (run,) = find(index, beginning, bar=PROMPT_BAR)
    assert (run.passage, run.until) == (1, len(beginning))
    assert not find(index, beginning[:-1], bar=PROMPT_BAR)
    assert not find(index, [*passage(500)[:8], *beginning[1:]], bar=PROMPT_BAR)
    assert find(index, [*passage(500)[:3], *beginning[1:]], bar=GIVEN_BAR)
