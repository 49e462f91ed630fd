"""General ability's scores and comparisons, on items made by hand."""

import json
import math

import numpy as np
import pytest
import torch

from peer_cl.errors import InputError
from pipelines.general import (
    ItemScore,
    ReaderScorer,
    changed,
    mcnemar,
    paired_interval,
    results,
    score,
)
from pipelines.general_tasks import CHOICE, CONTINUATION, TEXT, GeneralItem


class ByHand:
    """Gives each token the log probability that stands in a table, whatever stands before it."""

    def __init__(self, nats):
        self.nats = nats

    def log_probs(self, rows):
        return [np.array([self.nats[token] for token in row[1:]]) for row in rows]

    def answers(self, asked):
        return [question.ids[question.num_prompt :] == (7,) for question in asked]


def chosen(gold, key="k"):
    """Two choices after the context 5: "1", of one character, and "2 2", of four."""
    return GeneralItem("PIQA", CHOICE, key, ((0, 5, 1), (0, 5, 2, 2)), 2, (1, 4), gold)


def test_a_choice_is_the_likeliest_a_character_and_the_plain_one_the_likeliest():
    scorer = ByHand({5: -100.0, 1: -1.0, 2: -1.5})
    (one,) = score(scorer, [chosen(gold=1)])
    assert one.log_probs == (-1.0, -3.0)  # the context's -100 counts for neither
    assert (one.choice, one.plain_choice) == (1, 0)  # -1 / 1 < -3 / 4, yet -1 > -3
    assert (one.is_right, one.is_plain_right) == (True, False)


def test_a_continuation_is_written_whole_or_wrong_and_texts_are_read_from_their_first_token():
    words = [
        GeneralItem("LAMBADA", CONTINUATION, key, ((0, 5, *end),), 2)
        for key, end in (("a", (7,)), ("b", (7, 8)))
    ]
    text = GeneralItem("WikiText", TEXT, "c", ((0, 1, 2, 2),), 1)
    scores = score(ByHand({1: -1.0, 2: -2.0}), [words[0], text, words[1]])
    assert [one.key for one in scores] == ["a", "c", "b"]
    assert [one.is_right for one in scores] == [True, None, False]
    assert scores[1].log_probs == (-5.0,)
    assert scores[1].num_tokens == 3
    found = results(scores)
    assert found["LAMBADA"].accuracy == 0.5
    assert found["WikiText"].loss_nats == pytest.approx(5 / 3)
    assert found["WikiText"].accuracy is None


def test_scores_come_back_from_json():
    scores = score(ByHand({5: 0.0, 1: -1.0, 2: -1.5}), [chosen(gold=0)])
    scores += (ItemScore("LAMBADA", "a", is_right=False),)
    lines = [json.dumps(one.to_dict()) for one in scores]
    assert "null" not in "".join(lines)
    assert tuple(ItemScore.from_dict(json.loads(line)) for line in lines) == scores


def test_a_real_reader_scores_each_row_as_if_alone():
    logits_V = torch.tensor([0.0, 1.0, 3.0, 0.0])

    def reader(ids_BT, mask_BT):
        return logits_V.expand(*ids_BT.shape, 4)

    items = [
        GeneralItem("PIQA", CHOICE, "a", ((0, 3, 2), (0, 3, 1, 1)), 2, (1, 1), 0),
        GeneralItem("LAMBADA", CONTINUATION, "b", ((0, 3, 2),), 2),
        GeneralItem("LAMBADA", CONTINUATION, "c", ((0, 3, 2, 1),), 2),
    ]
    scores = score(ReaderScorer(reader), items)
    nats = logits_V.double().log_softmax(-1).tolist()
    assert scores[0].log_probs == pytest.approx((nats[2], 2 * nats[1]), abs=1e-6)
    assert [one.is_right for one in scores] == [True, True, False]


def verdict(key, choice, gold=0):
    return ItemScore("PIQA", key, choice=choice, is_right=choice == gold)


def test_changes_are_counted_item_by_item():
    before = [verdict("a", 0), verdict("b", 0), verdict("c", 1), verdict("d", 1)]
    after = [verdict("d", 2), verdict("a", 0), verdict("b", 1), verdict("c", 1)]
    change = changed(before, after)["PIQA"]
    assert (change.num_items, change.num_changed, change.gains, change.losses) == (4, 2, 0, 1)
    assert change.difference == -0.25
    assert change.low < -0.25 < change.high
    assert change.p_value == 1.0
    with pytest.raises(InputError, match="1 items were scored by one model only"):
        changed(before, after[1:])


def test_the_loss_added_to_texts_is_a_mean_over_their_tokens():
    def text(key, nats, num):
        return ItemScore("WikiText", key, (-nats,), num_tokens=num)

    before = [text("a", 30.0, 10), text("b", 90.0, 30)]
    after = [text("a", 32.0, 10), text("b", 90.0, 30)]
    change = changed(before, after)["WikiText"]
    assert change.difference == pytest.approx(2 / 40)
    assert (change.num_changed, change.gains, change.losses) == (1, 0, 1)
    assert change.low == 0.0  # only "b" was drawn
    assert change.high == pytest.approx(0.2)  # only "a"


def test_mcnemar_against_the_binomial_distribution():
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(40, 60) == pytest.approx(0.0569, abs=1e-4)
    assert 0 < mcnemar(2000, 2300) < 1e-4  # far more than a float's exponent holds


@pytest.mark.parametrize(
    ("gains", "losses", "num"), [(0, 0, 50), (3, 9, 50), (12, 2, 50), (0, 5, 9)]
)
def test_the_interval_ends_where_the_likelihood_says(gains, losses, num):
    """The score's variance comes from a quadratic; here the likelihood is searched instead."""
    for end in paired_interval(gains, losses, num):
        shares = np.linspace(max(0.0, -end), (1 - end) / 2, 400_001)[1:-1]
        with np.errstate(divide="ignore"):
            heights = (num - gains - losses) * np.log(1 - 2 * shares - end)
            heights += gains * np.log(shares + end) if gains else 0.0
            heights += losses * np.log(shares) if losses else 0.0
        best = shares[heights.argmax()]
        error = math.sqrt(num * (2 * best + end * (1 - end)))
        assert abs(gains - losses - num * end) / error == pytest.approx(1.96, abs=2e-3)


def test_intervals_mirror_each_other_and_hold_the_difference():
    low, high = paired_interval(12, 2, 50)
    assert low < 0.2 < high
    assert paired_interval(2, 12, 50) == pytest.approx((-high, -low))
    assert low > 0  # as the test says: p = 0.013
    assert mcnemar(12, 2) < 0.05
