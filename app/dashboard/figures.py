"""The headline figures: each with its value, a caption in plain words, and its formula.

docs/metrics.md explains the same figures at more length; a test keeps the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.bound import worst_added

if TYPE_CHECKING:
    from stores.queries import Evaluation

Report = dict[str, Any]
NOT_MEASURED = "not measured"
"""In the place of a unit: as a figure, in large letters, it would be cut off in a tile."""
NOTHING = "–"
_NOTICEABLE = 1e-4
"""Nats a token; smaller changes are a matter of the mixture's shares, and no one could see them."""


@dataclass(frozen=True)
class Figure:
    """One headline figure of the newest evaluation."""

    name: str
    shown: str
    unit: str
    caption: str
    """What it means here, in plain words."""
    formula: str
    """In TeX."""
    symbols: str
    """What stands in the formula, in plain words, and which sign is good."""
    section: str
    """Of docs/metrics.md."""
    past: tuple[float, ...]
    """Its values over the evaluations, oldest first; those without one are left out."""


def bwt(report: Report) -> float | None:
    """Return backward transfer in nats a token; negative = forgot."""
    return float(report["metrics"]["bwt"])


def mean_gain(report: Report) -> float | None:
    """Return the mean over domains of the base's loss less the mixture's, nats a token."""
    return _mean([row["base_loss_nats"] - row["loss_nats"] for row in report["mixture"]])


def mean_gain_share(report: Report) -> float | None:
    """Return the mean over domains of the share of the base's loss that the mixture saves."""
    rows = [row for row in report["mixture"] if row["base_loss_nats"]]
    return _mean([1 - row["loss_nats"] / row["base_loss_nats"] for row in rows])


def recall(report: Report, wording: str = "seen") -> float | None:
    """Return the mean over domains with facts of the share that the mixture recalls exactly.

    Args:
        report: of an evaluation.
        wording: "seen" (as taught) or "reworded".
    """
    return _mean([row["mixture"] for row in report["recall"] if row["wording"] == wording])


def headline(evaluations: Sequence[Evaluation]) -> tuple[Figure, ...]:
    """Return the four headline figures of the newest evaluation.

    Args:
        evaluations: the oldest first; at least one.
    """
    reports = [evaluation.report for evaluation in evaluations]
    newest = reports[-1]
    return (
        _worst(newest, _past(reports, worst_added)),
        _transfer(newest, _past(reports, bwt)),
        _gain(newest, _past(reports, mean_gain)),
        _recall(newest, _past(reports, recall)),
    )


def shared(report: Report) -> tuple[Figure, Figure]:
    """Return the mean gain and the worst added loss as Overview has them, of one report.

    Args:
        report: of an evaluation.

    Raises: KeyError: when a part of it is missing.
    """
    return _gain(report, ()), _worst(report, ())


def told_past(figure: Figure) -> str:
    """Return in words what a figure's line shows, for those who cannot see it.

    Args:
        figure: with at least one value.
    """
    first, last = figure.past[0], figure.past[-1]
    told = f"{figure.name} over {len(figure.past)} evaluations: first {first:.4g}, now {last:.4g}"
    return f"{told}; least {min(figure.past):.4g}, most {max(figure.past):.4g}, {figure.unit}"


def _worst(report: Report, past: tuple[float, ...]) -> Figure:
    value, bound = worst_added(report), float(report["bound_nats"])
    rule = f"No text scored from its first token can lose more than {bound:.4f} nats in all."
    if report.get("name_odds"):
        wide = float(report["named_bound_nats"])
        rule += f" A prompt that names one domain and what follows it: {wide:.4f} together."
    is_gain = value is not None and value <= 0
    found = "No measured document lost anything." if is_gain else "What one document lost at most."
    return Figure(
        name="Worst added loss",
        shown=_number(value, "+.4f"),
        unit=_unit(value, "nats a document"),
        caption=f"{found} {rule}",
        formula=r"\max_d\ \big(L_{\text{mixture}}(d) - L_{\text{base}}(d)\big)"
        r"\ \le\ -\ln(1 - b)",
        symbols="L(d): the whole loss of document d, in nats, over held-out documents of every "
        "domain and background documents, with every enabled pool asked, and the texts by which "
        "general ability was measured. b: the store's budget "
        f"({report['budget']:g}). Positive: lost.",
        section="Worst added loss",
        past=past,
    )


def _transfer(report: Report, past: tuple[float, ...]) -> Figure:
    value = report["metrics"]["bwt"]
    num = len(report["domains"])
    if num < 2:
        caption = "One domain alone: there is nothing earlier that could be forgotten."
    elif abs(value) < _NOTICEABLE:
        caption = "Earlier domains are as good as when they were learned, within 0.0001."
    elif value < 0:
        caption = "Earlier domains got worse by this much as later ones came."
    else:
        caption = "Earlier domains got better by this much as later ones came."
    return Figure(
        name="Backward transfer",
        shown=_number(value, "+.4f") if abs(value) >= _NOTICEABLE else "0.0000",
        unit="nats a token (BWT)",
        caption=caption,
        formula=r"\frac{1}{T-1} \sum_{j=1}^{T-1} \big(R_{T,j} - R_{j,j}\big)",
        symbols="R(i, j): minus the loss on held-out documents of domain j with the live versions "
        "of the domains that had come with domain i on, nats a token. T: the number of domains, "
        "in the order in which their versions came. Negative: forgot.",
        section="Backward transfer",
        past=past,
    )


def _gain(report: Report, past: tuple[float, ...]) -> Figure:
    share = mean_gain_share(report) or 0.0
    return Figure(
        name="Mean gain",
        shown=_number(mean_gain(report), "+.3f"),
        unit=_unit(mean_gain(report), f"nats a token ({share:.0%})"),
        caption="How much better a domain's held-out documents are predicted than by the base "
        f"alone: {share:.0%} of its loss is gone, on average over {_domains(report)}.",
        formula=r"\frac{1}{T} \sum_{j=1}^{T} \big(\ell_{\text{base}}(j) - "
        r"\ell_{\text{mixture}}(j)\big)",
        symbols="l(j): the loss on held-out documents of domain j, nats a token. The percentage is "
        "the mean of 1 - l_mixture(j) / l_base(j). Positive: learned.",
        section="Mean gain",
        past=past,
    )


def _recall(report: Report, past: tuple[float, ...]) -> Figure:
    seen, reworded = recall(report), recall(report, "reworded")
    num_long = sum(report.get("too_long_questions", {}).values())
    if seen is None and not report.get("with_recall", True):
        caption = "This evaluation did not ask the facts."
    elif seen is None and num_long:
        caption = "No fact could be asked as it was taught."
    elif seen is None:
        caption = "No facts were taught, or none of their domains is enabled."
    else:
        caption = "How many of the facts that were taught are answered word for word."
    if reworded is not None:
        caption += f" Asked in other words: {reworded:.0%}."
    if num_long:
        caption += f" Questions not asked, being longer than the base reads: {num_long:,}."
    return Figure(
        name="Recall of trained facts",
        shown=_number(seen, ".0%"),
        unit=_unit(seen, "of facts, asked as taught"),
        caption=caption,
        formula=r"\frac{1}{T} \sum_{j=1}^{T} \frac{\text{facts of } j \text{ answered exactly}}"
        r"{\text{facts of } j \text{ asked}}",
        symbols="Answered exactly: each token of the answer is the likeliest one after the prompt "
        "and the answer's earlier tokens, with the weights that the prompt chose. From 0 to 100 %; "
        "higher is better.",
        section="Recall",
        past=past,
    )


def _domains(report: Report) -> str:
    num = len(report["mixture"])
    return f"{num} domain{'s' * (num != 1)}"


def _past(reports: Sequence[Report], of: Callable[[Report], float | None]) -> tuple[float, ...]:
    return tuple(value for value in map(of, reports) if value is not None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _unit(value: float | None, unit: str) -> str:
    return NOT_MEASURED if value is None else unit
