"""What pages show, as tables: from the store's answers to pandas DataFrames, and how they look.

Columns have the names of the fields that they come from; COLUMNS has their headings. A column
`open` holds the address of another page. Losses are in nats a token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st

from app.output import moment
from app.report import METRICS
from pipelines.report import EvaluationReport
from stores.queries import DomainDetail, Evaluation, Event, Run, Snapshot

if TYPE_CHECKING:  # this loads torch, which the Overview does without
    from pipelines.trace import TracedToken

BASE = "base"
TRAINING, VALIDATION = "training", "validation"
SMOOTHED_SHARE = 0.05
"""Share of a run's steps over which its training loss is smoothed."""
ANSWERED = ("right", "wrong", "declined")
"""How a question may be answered: fields of `AskedRow`."""
NUM_BINS = 5
"""Of answers by their probability; fewer where a bin would hold one alone."""


def rows(items: Iterable[Any], columns: str, **computed: Callable[[Any], object]) -> pd.DataFrame:
    """Return one row an item, with these attributes and computed columns; times to the minute."""
    found, listed = {}, list(items)
    for name in columns.split():
        values = pd.Series([*map(computed.get(name) or attrgetter(name), listed)], dtype=object)
        is_number = all(one is None or isinstance(one, int | float) for one in values)
        if name == "at" or name.endswith("_at"):
            values = values.map(minute)
        found[name.rpartition(".")[2]] = pd.to_numeric(values) if is_number else values
    return pd.DataFrame(found)


def address(page: str, **query: object) -> str:
    """Return the address of a page, relative to the dashboard."""
    return f"{page}?{urlencode(query)}"


def document_address(one: Any) -> str:
    """Return the address of the page of what has a document's id."""
    return address("document", id=one.document_id)


def expert_name(one: Any) -> str:
    """Return an expert as LAYER:EXPERT."""
    return f"{one.host_layer}:{one.expert}"


def minute(stamp: str) -> str:
    """Return a time of the store as 2026-01-02 03:04."""
    return moment(stamp)[:16]


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Example:
        >>> duration(12), duration(95), duration(4000)
        ('12 s', '2 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# Domains, documents, runs and snapshots


def versions_table(detail: DomainDetail) -> pd.DataFrame:
    """Return one row a version that was ever made of a domain, the newest first."""
    live = {segment.id for segment in detail.chain}
    return rows(
        reversed(detail.versions),
        "label state num_tokens num_experts size_bytes took created_at",
        state=lambda s: "purged" if s.is_purged else "live" if s.id in live else "not live",
        took=lambda s: duration(s.seconds),
    )


def losses_table(losses: Sequence[tuple[int, float, float | None]], version: str) -> pd.DataFrame:
    """Return a run's losses in long form: version, step, kind, loss and smoothed."""
    table = pd.DataFrame(losses, columns=["step", TRAINING, VALIDATION]).astype(float)
    window = max(1, round(SMOOTHED_SHARE * len(table)))
    smoothed = table[TRAINING].rolling(window, min_periods=1, center=True).mean()
    long = table.assign(smoothed=smoothed).melt(
        ["step", "smoothed"], [TRAINING, VALIDATION], "kind", "loss"
    )
    return long.dropna(subset="loss").assign(version=version)


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row a run, in the order given."""
    return rows(
        runs,
        "run kind domain state started_at took snapshot_id note",
        run=lambda one: address("ingest", run=one.id),
        state=run_state,
        took=_took,
        note=lambda one: one.error or one.note,
    )


def run_name(run: Run) -> str:
    """Return what a run is, such as "evaluation" or "ingest of law"."""
    noun = {"evaluate": "evaluation", "erase": "erasure"}.get(run.kind, run.kind)
    return f"{noun} of {run.domain}" if run.domain else noun


def run_state(run: Run) -> str:
    """Return a run's state; "lost" where its process is gone without an end."""
    return "lost" if run.is_lost else run.state


def _took(run: Run) -> str:
    if run.ended_at is None:
        return ""
    taken = datetime.fromisoformat(run.ended_at) - datetime.fromisoformat(run.started_at)
    return duration(taken.total_seconds())


def snapshot_labels(
    snapshots: Iterable[Snapshot], events: Iterable[Event], live_id: int
) -> dict[int, str]:
    """Return what a list says of each snapshot, such as "5: law ingest, 2026-11-27 12:28, live".

    Events come the newest first: the oldest of a snapshot made it.
    """
    made = {event.snapshot_id: event.domain for event in events}
    labels = {}
    for one in snapshots:
        subject = " ".join([*filter(None, [made.get(one.id)]), one.action])
        words = [subject, minute(one.created_at), *["live"] * (one.id == live_id)]
        labels[one.id] = f"{one.id}: {', '.join(words)}"
    return labels


# An evaluation

ABSOLUTE, FROM_BASE = "loss", "change from the base"
BY_INGEST, FORGOT = "change by this ingest", "forgetting"
MODES = {
    ABSOLUTE: "Loss on each domain's held-out documents; the stronger the blue, the better.",
    FROM_BASE: "The loss less the base's: what all learning so far did. Blue is better.",
    BY_INGEST: "The loss less that without the row's domain: what its ingest did. Blue is better.",
    FORGOT: "How much worse than right after the domain was learned; positive = forgot.",
}
"""Views of the matrix, with what each says."""
MEANINGS = {
    "acc": ("ACC", "Mean score of all domains now."),
    "learning_accuracy": ("Learning accuracy", "Mean score right after each was learned."),
    "bwt": ("BWT, backward transfer", "Change since each was learned; negative = forgot."),
    "fwt": ("FWT, forward transfer", "Effect on domains not yet learned; positive = helped."),
    "forgetting": ("Forgetting", "Fall from each domain's best; positive = forgot."),
    "retention": ("Retention", "Share of all gains right after learning that is left now."),
}
"""Title and meaning of each metric; `app.report.METRICS` has unit and sense."""


def matrix_table(report: EvaluationReport, mode: str = ABSOLUTE) -> pd.DataFrame:
    """Return the matrix in long form: step (0: the base), after, place, domain, loss_nats, value.

    The mode says which of MODES `value` is; cells without one are NaN.
    """
    num = len(report.domains)
    losses = np.array(report.matrix.loss_nats, dtype=float)
    came = np.vstack([losses[1:-1], report.matrix.coming_nats])
    is_learned = np.arange(num + 1)[:, None] > np.arange(num)
    values = {
        ABSOLUTE: losses,
        FROM_BASE: losses - losses[:1],
        BY_INGEST: np.vstack([np.full(num, np.nan), came - np.array(report.matrix.before_nats)]),
        FORGOT: np.where(is_learned, losses - came.diagonal(), np.nan),
    }[mode]
    steps, places = (axis.ravel() for axis in np.indices(losses.shape))
    after = [BASE, *(f"after {domain}" for domain in report.domains)]
    return pd.DataFrame(
        {
            "step": steps,
            "after": [after[step] for step in steps],
            "place": places,
            "domain": [report.domains[place] for place in places],
            "loss_nats": losses.ravel(),
            "value": values.ravel(),
        }
    )


def metrics_table(report: EvaluationReport) -> pd.DataFrame:
    """Return the metrics of continual learning with their units, senses and meanings."""
    found = []
    for name, (title, meaning) in MEANINGS.items():
        value = getattr(report.metrics, name)
        found.append((title, "–" if value is None else f"{value:+.4f}", *METRICS[name], meaning))
    return pd.DataFrame(found, columns=["metric", "value", "unit", "sense", "meaning"])


def mean_recall(report: EvaluationReport, wording: str) -> float | None:
    """Return the share of all questions in a wording that the routed model answers exactly."""
    asked = [row for row in report.recall if row.wording == wording]
    num = sum(row.num for row in asked)
    return sum(row.routed * row.num for row in asked) / num if num else None


def mean_gain(report: EvaluationReport) -> float | None:
    """Return the base's loss less the mixture's, nats a token, averaged over measured domains."""
    gains = [row.base_loss_nats - row.loss_nats for row in report.routing]
    return float(np.mean(gains)) if gains else None


def answers_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """Return the share of kept questions answered rightly, a row an evaluation and domain."""
    found = [
        (one.snapshot.id, row["domain"], row["source"], row["right"] / row["num"])
        for one in evaluations
        for row in one.report["asked"]
    ]
    return pd.DataFrame(found, columns=["snapshot", "domain", "source", "answered"])


def risk_table(outcomes: Iterable[tuple[float, bool]], num: int) -> pd.DataFrame:
    """Return the share wrong among the surest answers, a row a probability from which on `num`
    questions would be answered; `answered` is the share of them that are.
    """
    table = pd.DataFrame(outcomes, columns=["probability", "is_right"])
    table = table.sort_values("probability", ascending=False, ignore_index=True)
    answers = table.index + 1
    table["answered"], table["wrong"] = answers / num, (~table.pop("is_right")).cumsum() / answers
    return table.drop_duplicates("probability", keep="last")


def reliability_table(outcomes: Iterable[tuple[float, bool]]) -> pd.DataFrame:
    """Return the mean probability of answers and the share right, in bins of equally many."""
    ordered = np.array(sorted(outcomes), dtype=float)
    bins = np.array_split(ordered, min(NUM_BINS, max(1, len(ordered) // 2)))
    found = [(*one.mean(axis=0), len(one)) for one in bins]
    return pd.DataFrame(found, columns=["probability", "right", "answers"])


# A trace


def visible(text: str) -> str:
    """Return a token so that its blanks and line ends are seen."""
    return "".join("␣" if letter == " " else _drawn(letter) for letter in text) or "∅"


def _drawn(letter: str) -> str:
    signs = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
    is_control = unicodedata.category(letter).startswith("C")
    return signs.get(letter, "·" if is_control else letter)


def text_table(tokens: Sequence[TracedToken], num_columns: int) -> pd.DataFrame:
    """Return where each token stands when a text is set in lines of a fixed-width font.

    `left` is where its letters begin, `heaviest` the branch with the largest weight when it is
    predicted.
    """
    found = []
    line = start = 0
    for number, token in enumerate(tokens, start=1):
        shown = "".join(map(_drawn, token.text)) or "∅"
        if start and start + _width(shown) > num_columns:
            line, start = line + 1, 0
        weights = {BASE: token.base_weight, **token.weights}
        heaviest = max(weights, key=weights.__getitem__)
        found.append(
            {
                "token": number,
                "shown": shown.strip(" "),
                "seen": visible(token.text),
                "line": line,
                "start": start,
                "left": start + len(shown) - len(shown.lstrip(" ")),
                "end": start + _width(shown),
                "heaviest": heaviest,
                "weight": weights[heaviest],
                "base_loss_nats": -token.base_log_prob,
                "loss_nats": -token.log_prob,
            }
        )
        start += _width(shown)
        if "\n" in token.text:
            line, start = line + 1, 0
    return pd.DataFrame(found)


def _width(text: str) -> int:
    """Return how many columns of a fixed-width font a text takes."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


# How a table is shown

COLUMNS: dict[str, tuple[str, str, str | None]] = {
    "label": ("version", "words", None),
    "title": ("title", "words", None),
    "message": ("message", "wide", None),
    "note": ("note", "wide", None),
    "meaning": ("meaning", "wide", None),
    "change": ("change", "wide", None),
    "at": ("at (UTC)", "words", None),
    "changed_at": ("changed (UTC)", "words", None),
    "created_at": ("made (UTC)", "words", None),
    "started_at": ("started (UTC)", "words", None),
    "snapshot_id": ("snapshot", "%d", None),
    "num": ("questions", "localized", None),
    "num_found": ("found", "localized", "Questions that find their own document first."),
    "num_texts": ("texts", "localized", "Texts that were learned."),
    "num_facts": ("facts", "localized", "Facts that were learned."),
    "num_held_out": ("held out", "localized", "Texts to measure on, never learned."),
    "num_tokens": ("tokens", "localized", None),
    "num_experts": ("experts", "localized", "In all host layers together."),
    "num_host_layers": ("host layers", "localized", None),
    "size_bytes": ("size", "bytes", "On disk."),
    "base_nats": ("loss before", "%.3f", "Of the base alone, nats a token."),
    "nats": ("loss after", "%.3f", "Right after it was learned, nats a token."),
    "base_loss_nats": ("base", "%.3f", "Loss of the base alone, nats a token."),
    "oracle_loss_nats": ("its pool alone", "%.3f", "Loss with its pool, nats a token."),
    "loss_nats": ("loss", "%.3f", "Loss of the mixture, nats a token."),
    "gain_nats": ("gain", "%+.3f", "The base's less the mixture's; positive = learned."),
    "max_added_nats": ("worst document", "%+.4f", "Nats added to a whole document's loss."),
    "reduction": ("reduction", "percent", "Share of the base's loss that the pool removes."),
    "efficiency": ("efficiency", "percent", "Share of the pool's gain in the mixture."),
    "efficiency_continuation": ("after context", "percent", "Efficiency on second halves."),
    "found": ("found", "percent", "Documents in which the router finds the domain."),
    "identical": ("unchanged", "percent", "Documents that get the bare model's own bits."),
    "taught": ("taught", "percent", "Facts answered exactly, asked as they were taught."),
    "paraphrase": ("paraphrased", "percent", "Facts answered exactly, asked otherwise."),
    "base": ("base", "bar", "By the base alone."),
    "routed": ("routed", "bar", "By the branch that the prompt chooses."),
    "oracle": ("oracle", "bar", "By the domain's own pool."),
    "base_probability": ("probability", "bar", None),
    "mixture_probability": ("probability", "bar", None),
    "without_probability": ("probability", "bar", None),
    "statement": ("fact", "wide", None),
    "about": ("item", "wide", None),
    "nearest": ("most similar item", "words", "Whose experts add the most similar."),
    "sentence": ("sentence", "wide", "As it is quoted."),
    "probability": ("probability", "bar", "That it answers the question."),
    "right": ("right", "localized", "The wanted answer is said or quoted."),
    "wrong": ("wrong", "localized", "Something else is said."),
    "declined": ("declined", "localized", "“Not known” is said."),
    "asked_behind": ("asked behind", "words", "The token behind which its answer is expected."),
    "weight_share": ("share", "percent", "Of its layer's router weight."),
    "weight": ("router weight", "%.3f", None),
    "strength": ("strength", "%.3f", "Length of what it adds to its layer's output."),
    "posterior": ("weight", "bar", "Posterior weight after the text."),
    "evidence": ("evidence", "%+.2f", "Log odds over the base, nats; positive = for it."),
    "score": ("alike", "bar", "Cosine of what is asked and of the nearest wording known."),
    "similarity": ("cosine", "%.3f", "Between what the experts of both add."),
}
"""By name: heading, format of its numbers ("bar": a share; "words" and "wide": text), help."""


def _config(name: str) -> Any:
    if name in ("open", "run"):
        shown = ":material/open_in_new:" if name == "open" else r"run=(\w{8})"
        return st.column_config.LinkColumn(name, display_text=shown, help="Opens in a new tab.")
    title, form, told = COLUMNS.get(name, (name.replace("_", " "), "", None))
    if form in ("words", "wide"):
        width: Any = "large" if form == "wide" else None
        return st.column_config.TextColumn(title, help=told, width=width)
    if form == "bar":
        return st.column_config.ProgressColumn(title, format="percent", max_value=1.0, help=told)
    return st.column_config.NumberColumn(title, format=form, help=told) if form else title


def show(table: pd.DataFrame, alt: str, *, hide: Sequence[str] = (), **options: Any) -> None:
    """Show a table with the headings of COLUMNS; `alt` tells those who cannot see what it holds."""
    shown = [name for name in table.columns if name not in hide]
    config = {name: _config(name) for name in shown}
    st.dataframe(
        table[shown], hide_index=True, placeholder="–", column_config=config, alt=alt, **options
    )
