"""Fitting a calibration to questions whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipelines.answer.calibration import PENALTY, Calibration, Features, Logistic, fit, fit_scale
from pipelines.answer.find import Reads, Unit, shortlist

SHOWN = 0.1
"""Of the questions that nothing answers, the most that are shown an answer."""


@dataclass(frozen=True)
class KnownQuestion:
    """A question, and which units answer it."""

    text: str
    is_answerable: bool
    measured: Sequence[tuple[Unit, Features]]
    is_right: Callable[[Unit], bool]


def fit_calibration(
    known: Sequence[KnownQuestion], reader: Reads | None, start: Calibration | None = None
) -> Calibration:
    """Return the calibration that says best which units answer.

    The weights are fitted to all units that are read. Their scale is fitted to the best unit of
    each question, since the best of several is right less often than one alone would be. The
    threshold lets at most `SHOWN` of the questions through that nothing answers.
    With few questions all stays near `start`.
    """
    rows = [(one, pair) for one in known for pair in one.measured]
    right = [one.is_answerable and one.is_right(unit) for one, (unit, _) in rows]
    cheap = fit(
        [features for _, (_, features) in rows],
        right,
        leave_out="relevance",
        start=start.cheap if start else None,
    )
    read = [(one, _read(one, cheap, reader)) for one in known]
    pairs = [(one, pair) for one, own in read for pair in own]
    whole = fit(
        [features for _, (_, features) in pairs],
        [one.is_answerable and one.is_right(unit) for one, (unit, _) in pairs],
        start=start.whole if start else None,
    )
    best = [(one, max(own, key=lambda pair: whole.log_odds(pair[1]))) for one, own in read if own]
    odds = [whole.log_odds(features) for _, (_, features) in best]
    scale, shift = fit_scale(
        odds,
        [one.is_answerable and one.is_right(unit) for one, (unit, _) in best],
        PENALTY if start else 0.0,
    )
    whole = Logistic(
        {name: scale * weight for name, weight in whole.weights.items()}, scale * whole.bias + shift
    )
    nothing = sorted(
        (whole.probability(features) for one, (_, features) in best if not one.is_answerable),
        reverse=True,
    )
    most = int(SHOWN * len(nothing))
    usual = start.threshold if start else 0.5
    threshold = nothing[most - 1] if most else usual
    return Calibration(cheap, whole, threshold)


def _read(one: KnownQuestion, cheap: Logistic, reader: Reads | None) -> list[tuple[Unit, Features]]:
    kept = shortlist(one.measured, cheap)
    if reader is None:
        return kept
    told = reader.relevance(one.text, [(unit.title, unit.text) for unit, _ in kept])
    return [
        (unit, replace(features, relevance=odds))
        for (unit, features), odds in zip(kept, told, strict=True)
    ]
