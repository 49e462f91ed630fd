"""An evaluation's report as tables: the matrix domain x time, curves, other text, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.dashboard.frames.general import read_general
from app.report import BACKGROUND, METRICS
from peer_cl import metrics
from peer_cl.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """What a cell of the matrix shows."""

    title: str
    unit: str
    is_better_low: bool
    digits: str
    """How a value is written, in d3's and Python's format."""
    fine: str
    """The same with a digit more, for what was forgotten: it is little, or should be."""
    floor: float
    """A colour scale of changes spans at least so much, so that noise does not look like harm."""


MEASURES = {
    "loss": Measure("Loss", "nats a token", True, ".3f", ".4f", 0.02),
    "reduction": Measure("Reduction", "share of the base's loss", False, ".1%", ".2%", 0.01),
    "perplexity": Measure("Perplexity", "perplexity", True, ".2f", ".3f", 0.5),
}
ABSOLUTE, TO_BASE, TO_BEFORE, FORGOTTEN = (
    "absolute",
    "change against the base",
    "change against the row before",
    "forgetting",
)
MODES = {
    ABSOLUTE: "The value itself.",
    TO_BASE: "The value less the base's: what all that was learned did.",
    TO_BEFORE: "The value less that without this domain, whatever is off now: what its ingest did.",
    FORGOTTEN: "How much worse than right after the domain was learned; positive = forgot.",
}
"""What a cell's value is compared with, and what that says."""


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation's report, checked."""

    snapshot_id: int
    domains: tuple[str, ...]
    """In the order in which they were learned."""
    unmeasured: tuple[str, ...]
    losses: Floats
    """(T + 1, T), nats a token; row 0 is the base, the last one what is on now."""
    came: Floats
    """(T, T): row i as it was when domain i came, whatever was switched off since."""
    before: Floats
    """(T, T): the same without domain i itself."""
    metrics: dict[str, float | None]
    """None: there is no such figure, as a share of what was not gained."""
    bound_nats: float
    background: list[dict[str, Any]]
    mixture: list[dict[str, Any]]
    general: list[dict[str, Any]]
    """Of `read_general`: a row a set that no domain teaches; none where nothing was measured."""
    general_left_out: tuple[str, ...] = ()
    """A line on each file, and on each set's items, that were left out of these."""

    @property
    def rows(self) -> list[str]:
        """What each row of the matrix comes after."""
        return ["base", *(f"after {domain}" for domain in self.domains)]


def _figure(told: Any) -> float | None:
    return None if told is None else float(told)


def read_report(snapshot_id: int, told: Any) -> Report:
    """Return a stored report, checked.

    Raises: DamageError: when it is not what an evaluation writes.
    """
    try:
        domains = tuple(str(name) for name in told["domains"])
        losses = np.array(told["matrix"]["loss_nats"], dtype=np.float64)
        # Reports of before have neither: there the rows of the matrix stand for both.
        newest = told["matrix"].get("coming_nats", losses[-1])
        came = np.array([*losses[1:-1], newest], dtype=np.float64)
        before = np.array(told["matrix"].get("before_nats", losses[:-1]), dtype=np.float64)
        report = Report(
            snapshot_id=snapshot_id,
            domains=domains,
            unmeasured=tuple(str(name) for name in told["unmeasured"]),
            losses=losses,
            came=came,
            before=before,
            metrics={str(name): _figure(told["metrics"][name]) for name in METRICS},
            bound_nats=float(told["bound_nats"]),
            background=[_checked(row, BACKGROUND) for row in told["background"]],
            mixture=[_checked(row, ("domain", "reduction")) for row in told["mixture"]],
            general=read_general(told.get("general")),
            general_left_out=tuple(map(str, told.get("general_left_out", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(snapshot_id, f"{type(error).__name__} {error}") from None
    num = len(domains)
    for rows, shape in ((losses, (num + 1, num)), (came, (num, num)), (before, (num, num))):
        if not num or rows.shape != shape:
            raise damaged(snapshot_id, f"a matrix of shape {rows.shape} for {num} domains")
        if not (np.isfinite(rows).all() and (rows >= 0).all() and (rows < 100).all()):
            raise damaged(snapshot_id, "losses that are none")
    return report


def _checked(row: Any, keys: Any) -> dict[str, Any]:
    return {**row, **{key: row[key] for key in keys}}


def damaged(snapshot_id: int, what: str) -> DamageError:
    """Return the error for an evaluation that is not what one writes.

    Args:
        snapshot_id: of which it is.
        what: is wrong with it.
    """
    return DamageError(
        f"the evaluation of snapshot {snapshot_id} is damaged: {what}; measure again"
    )


def written(value: float, form: str, *, is_change: bool) -> str:
    """Return a cell's value in words; what would round to 0 is 0, with neither digits nor sign.

    Args:
        value: a cell's.
        form: of a `Measure`.
        is_change: it has a sign then, above 0 too.

    Example:
        >>> written(0.0004, ".3f", is_change=True), written(-0.02, ".3f", is_change=True)
        ('0', '−0.020')
    """
    if format(abs(value), form) == format(0.0, form):
        return "0"
    # A minus as Vega writes it on the axes, of a plus's width.
    return format(value, f"+{form}" if is_change else form).replace("-", "\N{MINUS SIGN}")


def measured(report: Report, measure: str, losses: Floats | None = None) -> Floats:
    """Return the matrix, or other rows of its columns, in a measure's unit."""
    losses = report.losses if losses is None else losses
    if measure == "perplexity":
        return np.asarray(np.exp(losses))
    if measure == "reduction":
        base = np.broadcast_to(report.losses[:1], losses.shape)
        return np.asarray(1.0 - np.divide(losses, base, out=np.ones_like(losses), where=base > 0))
    return losses


def compared(report: Report, measure: str, mode: str) -> Floats:
    """Return the matrix of a measure as a mode compares it; NaN where there is nothing to say.

    Forgetting is positive where a domain got worse, whatever the measure's own sense is.
    """
    values = measured(report, measure)
    if mode == TO_BASE:
        return values - values[:1]
    if mode == TO_BEFORE:
        came, before = (measured(report, measure, rows) for rows in (report.came, report.before))
        return np.concatenate([np.full_like(values[:1], np.nan), came - before])
    if mode == FORGOTTEN:
        num = len(report.domains)
        right_after = measured(report, measure, report.came).diagonal()
        worse = values - right_after if MEASURES[measure].is_better_low else right_after - values
        known = np.arange(num + 1)[:, None] > np.arange(num)
        return np.where(known, worse, np.nan)
    return values


def matrix_frame(report: Report, measure: str, mode: str) -> pd.DataFrame:
    """Return one row a cell that has a value: step, after, place, domain, value, loss_nats.

    Args:
        report: an evaluation's.
        measure: a key of MEASURES.
        mode: a key of MODES.
    """
    frame = _cells(report)
    frame["value"] = compared(report, measure, mode).ravel()
    return frame.dropna(subset="value").reset_index(drop=True)


def export_frame(report: Report) -> pd.DataFrame:
    """Return the whole matrix in tidy form, every measure and comparison in columns of its own."""
    frame = _cells(report)
    for measure in MEASURES:
        name = "loss_nats" if measure == "loss" else measure
        frame[name] = measured(report, measure).ravel()
        for mode, short in ((TO_BASE, "to_base"), (TO_BEFORE, "to_before"), (FORGOTTEN, "forgot")):
            frame[f"{name}_{short}"] = compared(report, measure, mode).ravel()
    frame["kept"] = _kept(report).ravel()
    return frame.assign(snapshot=report.snapshot_id)


def _cells(report: Report) -> pd.DataFrame:
    num, rows = len(report.domains), report.rows
    steps, places = np.repeat(np.arange(num + 1), num), np.tile(np.arange(num), num + 1)
    return pd.DataFrame(
        {
            "step": steps,
            "after": [rows[step] for step in steps],
            "place": places,
            "domain": [report.domains[place] for place in places],
            "loss_nats": report.losses.ravel(),
        }
    )


def _kept(report: Report) -> Floats:
    """Return the share of each domain's first gain that is left, NaN before it was learned, and
    where it gained nothing."""
    kept = np.full_like(report.losses, np.nan)
    for place in range(len(report.domains)):
        base, right_after = report.losses[0, place], report.came[place, place]
        for step in range(place + 1, len(kept)):
            now = report.losses[step, place]
            share = metrics.kept(base, right_after, now)
            kept[step, place] = np.nan if share is None else share
    return kept


def curves_frame(report: Report) -> pd.DataFrame:
    """Return one row a domain and step: the loss, the base's, and the share of the gain kept."""
    num = len(report.domains)
    return _cells(report).assign(
        base_nats=np.tile(report.losses[0], num + 1), kept=_kept(report).ravel()
    )


def forgot_most(report: Report, num: int) -> list[str]:
    """Return so many domains, those first that forgot most since they were learned."""
    frame = exchange_frame(report).sort_values("forgotten_nats", ascending=False, kind="stable")
    return [str(name) for name in frame["domain"].head(num)]


def exchange_frame(report: Report) -> pd.DataFrame:
    """Return one row a domain: what it gained when it was learned, and what it forgot since."""
    forgotten = compared(report, "loss", FORGOTTEN)[-1]
    gained = report.losses[0] - report.came.diagonal()
    return pd.DataFrame(
        {"domain": report.domains, "gained_nats": gained, "forgotten_nats": forgotten}
    )


def background_frame(report: Report) -> pd.DataFrame:
    """Return one row a source of foreign text, before and after."""
    frame = pd.DataFrame(report.background, columns=list(BACKGROUND))
    change = frame["loss_nats"] - frame["base_loss_nats"]
    frame.insert(list(frame.columns).index("loss_nats") + 1, "change_nats", change)
    return frame


MEANINGS = {
    "acc": "Mean score on all domains now: the loss with its sign flipped.",
    "learning_accuracy": "Mean score on each domain right after it was learned.",
    "bwt": "How earlier domains changed since they were learned; negative = forgot.",
    "fwt": "What earlier domains did for one that was not yet learned; positive = helped.",
    "forgetting": "How far earlier domains fell from their best; positive = forgot.",
    "retention": "Share of all gains right after learning that is left now; 1 = all, - where "
    "nothing was gained.",
}
NAMES = {
    "acc": "ACC",
    "learning_accuracy": "Learning accuracy",
    "bwt": "BWT, backward transfer",
    "fwt": "FWT, forward transfer",
    "forgetting": "Forgetting",
    "retention": "Retention",
}


def metrics_frame(report: Report) -> pd.DataFrame:
    """Return the report's metrics with unit, sense and a sentence in plain words."""
    return pd.DataFrame(
        [
            (NAMES[name], report.metrics[name], sense, unit, MEANINGS[name])
            for name, (unit, sense) in METRICS.items()
        ],
        # The longest stands last: what is beyond a small window's edge is the least missed.
        columns=["metric", "value", "sense", "unit", "meaning"],
        dtype=object,  # as numbers, None would be one that is not
    )


def mixture_frame(report: Report) -> pd.DataFrame:
    """Return the report's figures a domain: alone, in the mixture, and through other pools."""
    columns = (
        "domain",
        "documents",
        "base_loss_nats",
        "forced_loss_nats",
        "loss_nats",
        "kept",
        "reduction",
        "max_added_nats",
    )
    return pd.DataFrame(report.mixture, columns=list(columns))


def order_of(domains: Sequence[str], colours: Mapping[str, str], other: str) -> list[str]:
    """Return a colour for each domain, in order; `other` for one that the store forgot."""
    return [colours.get(domain, other) for domain in domains]
