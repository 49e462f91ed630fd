"""Calibration: from what is measured of a unit to the probability that it answers a question.

Two logistic models, of a few weights each. The first looks at what costs nothing and says which
units are read; the second at everything, and its probability is shown. Both are fitted on people's
questions about other documents (`python -m benchmarks asking --fit`, `peer-cl calibrate`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

CALIBRATIONS = Path(__file__).parents[1] / "data" / "calibrations.json"
"""Those that come with the project, by encoder, with a reader and without."""
PENALTY = 1.0
"""Of squared weights, against the sum of nats."""


@dataclass(frozen=True)
class Features:
    """What is measured of a question and a unit; a function of these two and background alone."""

    meaning: float
    """The cosine of question and unit,"""
    passage_meaning: float
    """and of its passage's units on the average."""
    words: float
    """The share of what the question's words tell that stands in title and unit,"""
    passage_words: float
    """and in the passage, and its BM25 for every nat that they tell; of a fact, twice `words`."""
    told: float
    """Nats that the question's words tell, in hundreds."""
    is_fact: float
    """1 for a fact."""
    relevance: float = 0.0
    """The reader's log odds that the unit answers; 0 without a reader."""

    def values(self) -> list[float]:
        """Return them in the order of their names."""
        return [*asdict(self).values()]


NAMES = tuple(one.name for one in fields(Features))


@dataclass(frozen=True)
class Logistic:
    """A logistic model: the log odds are a sum of weighed features."""

    weights: Mapping[str, float]
    bias: float

    def log_odds(self, one: Features) -> float:
        """Return the log odds for a unit."""
        weighed = zip(NAMES, one.values(), strict=True)
        return self.bias + sum(self.weights[name] * value for name, value in weighed)

    def probability(self, one: Features) -> float:
        """Return the probability for a unit."""
        return 1 / (1 + math.exp(-self.log_odds(one)))


@dataclass(frozen=True)
class Calibration:
    """What makes a probability of a unit's features."""

    cheap: Logistic
    """Without the reader's part; says which units are read."""
    whole: Logistic
    threshold: float
    """Probability below which nothing is known."""

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Calibration:
        """Return what `asdict` made."""
        cheap, whole = (Logistic(**stored[name]) for name in ("cheap", "whole"))  # type: ignore[arg-type]
        return cls(cheap, whole, float(str(stored["threshold"])))


@cache
def shipped() -> Mapping[str, Calibration]:
    """Return the calibrations that come with the project."""
    stored = json.loads(CALIBRATIONS.read_text(encoding="utf-8"))
    return {name: Calibration.from_json(one) for name, one in stored.items()}


def calibration_name(encoder: str, *, has_reader: bool) -> str:
    """Return the name of a shipped calibration."""
    return f"{encoder}{' with a reader' if has_reader else ''}"


def fit(
    rows: Sequence[Features],
    is_right: Sequence[bool],
    *,
    leave_out: str = "",
    start: Logistic | None = None,
) -> Logistic:
    """Return the logistic model that says best which rows are right.

    Args:
        rows: of units; those of one question stand for themselves.
        is_right: whether each answers.
        leave_out: a feature that weighs nothing.
        start: what few rows shall not lead far away from.
    """
    values_NF: NDArray[np.float64] = np.array([one.values() for one in rows])
    if leave_out:
        values_NF[:, NAMES.index(leave_out)] = 0
    scale_F = values_NF.std(0)
    scale_F[scale_F == 0] = 1
    scaled_NF = values_NF / scale_F
    signs_N = np.where(np.array(is_right), 1.0, -1.0)
    begin_F = np.array([start.weights[name] if start else 0.0 for name in NAMES]) * scale_F

    def loss(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins_N, away_F = signs_N * (scaled_NF @ found[:-1] + found[-1]), found[:-1] - begin_F
        slopes_N = -signs_N * expit(-margins_N)
        slope = np.append(scaled_NF.T @ slopes_N + 2 * PENALTY * away_F, slopes_N.sum())
        return float(np.logaddexp(0, -margins_N).sum() + PENALTY * (away_F**2).sum()), slope

    best = minimize(loss, np.append(begin_F, start.bias if start else 0.0), jac=True).x
    weights = dict(zip(NAMES, (best[:-1] / scale_F).tolist(), strict=True))
    return Logistic(weights, float(best[-1]))


def fit_scale(
    odds: Sequence[float], is_right: Sequence[bool], penalty: float = 0.0
) -> tuple[float, float]:
    """Return the factor and the shift that make log odds true (Platt, 1999).

    With a penalty they stay near 1 and 0.
    """
    odds_N, signs_N = np.array(odds), np.where(np.array(is_right), 1.0, -1.0)

    def loss(found: NDArray[np.float64]) -> float:
        away = penalty * ((found[0] - 1) ** 2 + found[1] ** 2)
        return float(np.logaddexp(0, -signs_N * (found[0] * odds_N + found[1])).sum() + away)

    scale, shift = minimize(loss, np.array([1.0, 0.0])).x
    return float(scale), float(shift)
