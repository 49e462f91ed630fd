"""Calibration: probabilities are true of what they were fitted on, and few unanswerables pass."""

import json
import math
import random
from dataclasses import asdict, replace

import pytest

from pipelines.answer.calibration import NAMES, Calibration, Features, Logistic, fit, shipped
from pipelines.answer.find import NUM_READ, Unit, shortlist
from pipelines.answer.fit import SHOWN, KnownQuestion, fit_calibration

NOTHING = Features(0, 0, 0, 0, 0, 0)


def drawn(number, *, answerable):
    """A question about ten units, of which number 3 answers, if any does."""
    draw = random.Random(f"{number} {answerable}")
    measured = []
    for unit in range(10):
        meaning = draw.gauss(0.6 if answerable and unit == 3 else 0.3, 0.12)
        of = Unit("sea", unit, f"{unit}", "", f"unit {unit}", is_passage=True)
        measured.append((of, replace(NOTHING, meaning=meaning, words=draw.random())))
    return KnownQuestion(f"question {number}?", answerable, measured, lambda one: one.item == 3)


@pytest.fixture(scope="module")
def known():
    return [drawn(n, answerable=n % 3 > 0) for n in range(300)]


@pytest.fixture(scope="module")
def fitted(known):
    return fit_calibration(known, None)


def best(one, calibration):
    """The surest of a question's units, and how sure."""
    pairs = [(calibration.whole.probability(features), unit) for unit, features in one.measured]
    return max(pairs, key=lambda pair: pair[0])


def test_probabilities_of_the_best_units_are_true_on_the_average(known, fitted):
    found = [(*best(one, fitted), one) for one in known]
    right = [one.is_answerable and one.is_right(unit) for _, unit, one in found]
    assert sum(p for p, _, _ in found) == pytest.approx(sum(right), abs=0.5)


def test_one_in_ten_unanswerable_questions_passes_the_threshold(known, fitted):
    nothing = [one for one in known if not one.is_answerable]
    passed = sum(best(one, fitted)[0] >= fitted.threshold for one in nothing)
    assert passed == int(SHOWN * len(nothing))


def test_a_feature_that_says_nothing_weighs_little(fitted):
    weights = fitted.whole.weights
    assert weights["meaning"] > 5
    assert abs(weights["words"]) < 0.5
    assert weights["told"] == 0


def test_the_shortlist_holds_the_likeliest_units(known, fitted):
    odds = [fitted.cheap.log_odds(features) for _, features in known[1].measured]
    kept = shortlist(known[1].measured, fitted.cheap)
    assert [fitted.cheap.log_odds(features) for _, features in kept] == (
        sorted(odds, reverse=True)[:NUM_READ]
    )


def test_what_is_left_out_weighs_nothing_and_a_calibration_is_kept_whole(known, fitted):
    rows = [features for one in known for _, features in one.measured]
    without = fit(rows, [row.meaning > 0.5 for row in rows], leave_out="words")
    assert without.weights["words"] == 0
    assert Calibration.from_json(json.loads(json.dumps(asdict(fitted)))) == fitted


def test_calibrations_that_come_with_the_project_weigh_every_feature():
    for one in shipped().values():
        assert set(one.whole.weights) == set(one.cheap.weights) == set(NAMES)
        assert one.cheap.weights["relevance"] == 0
        assert 0 < one.threshold < 1


def test_log_odds_are_those_of_the_probability():
    model = Logistic(dict.fromkeys(NAMES, 0.5), -1.0)
    one = replace(NOTHING, meaning=0.8, is_fact=1.0)
    assert model.log_odds(one) == pytest.approx(-0.1)
    assert math.log(model.probability(one) / (1 - model.probability(one))) == pytest.approx(-0.1)
