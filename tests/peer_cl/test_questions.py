"""Questions find passages by what they tell; no passage changes another's score."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.questions import (
    LEAST_NATS,
    MEANING_SHARE,
    PAIR_WEIGHT,
    QUESTION_NORM,
    QuestionIndex,
    QuestionSpace,
    Terms,
    make_terms,
)

TOKENS = ["<s>", " the", ".", " Owl", "owl", " tower", " burns", " 1", "9", " rare", " 8"]
THE, MARK, OWL, SMALL_OWL, TOWER, BURNS, ONE, NINE, RARE, EIGHT = range(1, 11)
TERMS = Terms.weighed(
    make_terms(TOKENS),
    torch.tensor([THE, OWL, SMALL_OWL, TOWER, BURNS]),
    torch.tensor([9000, 2, 1, 3, 3]),
    torch.tensor([0, MARK, ONE, NINE, EIGHT]),
)
texts = st.lists(st.sampled_from(range(1, 11)), min_size=1, max_size=30)


def scores(question, *passages, vectors=None):
    """Return scores; without vectors no sentence means what a question does."""
    space = QuestionSpace(TERMS, lambda ids: torch.eye(2)[0])
    vectors = vectors or [torch.eye(2)[1:]] * len(passages)
    return QuestionIndex(space, passages, vectors).scores(question).tolist()


def test_a_sentence_that_means_the_same_is_near_whatever_its_words():
    same, both, other = scores(
        [OWL, TOWER],
        [RARE],
        [OWL, TOWER],
        [RARE],
        vectors=[torch.eye(2), torch.eye(2), torch.eye(2)[1:]],
    )
    assert same == MEANING_SHARE
    assert both > same > other == 0


@pytest.mark.parametrize("cosine", [1.0, 0.8, 0.5])
def test_questions_are_near_to_each_other_so_less_counts(cosine):
    vector = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]])
    words, own, asked = scores(
        [OWL], *[[RARE]] * 3, vectors=[torch.eye(2)[1:], vector, QUESTION_NORM * vector]
    )
    assert words == 0
    assert own == pytest.approx(MEANING_SHARE * cosine)
    assert asked == pytest.approx(MEANING_SHARE * (2 * cosine - 1), abs=1e-6)


def test_common_words_and_marks_tell_nothing_and_rare_ones_most():
    told = TERMS.told([THE, MARK, RARE, TOWER])
    assert THE not in told
    assert told[TERMS.terms_V[RARE]][0] > told[TERMS.terms_V[TOWER]][0] > 0


def test_case_and_blanks_make_no_other_term():
    assert TERMS.told([OWL]) == TERMS.told([SMALL_OWL])
    assert scores([SMALL_OWL, TOWER], [OWL, TOWER]) == scores([OWL, TOWER], [OWL, TOWER])


def test_numbers_tell_beside_their_neighbours_alone():
    assert TERMS.told([ONE]) == {}
    assert len(TERMS.told([ONE, NINE])) == 1
    year, other = scores([ONE, NINE], [ONE, NINE], [ONE, EIGHT])
    assert year > other == 0


def test_a_passage_of_the_same_words_in_order_is_nearer():
    near, far = scores([OWL, TOWER, BURNS], [OWL, TOWER, BURNS, RARE], [BURNS, TOWER, OWL, RARE])
    assert near > far > 0


def test_a_question_that_tells_little_is_sure_of_nothing():
    (score,) = scores([TOWER], [TOWER])
    nats = TERMS.told([TOWER])[TERMS.terms_V[TOWER]][0]
    assert nats < LEAST_NATS
    assert score < 2 * nats / LEAST_NATS < 1
    assert PAIR_WEIGHT < 1  # words count for more than their order


@given(texts, st.lists(texts, min_size=1, max_size=5))
def test_no_passage_changes_anothers_score(question, passages):
    together = scores(question, *passages)
    np.testing.assert_allclose(together, [scores(question, one)[0] for one in passages], rtol=1e-12)
