"""What pages show, as tables: pure functions from the store's answers to pandas DataFrames.

Columns have the names of the fields that they come from; columns.py has their headings. A column
`open` holds the address of another page. Losses are in nats a token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.look import describe_state
from app.output import moment
from app.report import METRICS
from peer_cl import metrics
from pipelines.report import EvaluationReport
from stores.queries import (
    Document,
    DocumentPlace,
    DomainDetail,
    DomainState,
    DomainSummary,
    Event,
    ExpertUse,
    HeldBy,
    HeldOutScores,
    Run,
    Segment,
    Snapshot,
    changes,
)

if TYPE_CHECKING:  # these load torch, which the Overview does without
    from pipelines.experts import Expert
    from pipelines.provenance import DocumentExpert, RankedDocument
    from pipelines.trace import NextToken, Trace, TracedExpert, TracedToken

BASE, MIXTURE = "base", "mixture"
TRAINING, VALIDATION = "training", "validation"
SMOOTHED_SHARE = 0.05
"""Share of a run's steps over which its training loss is smoothed."""


def _fields(items: Iterable[object], *names: str) -> pd.DataFrame:
    """Return one row an item, with these of its fields as columns."""
    rows = [[getattr(item, name) for name in names] for item in items]
    return pd.DataFrame(rows, columns=list(names))


def address(page: str, **query: object) -> str:
    """Return the address of a page, relative to the dashboard.

    Example:
        >>> address("domains", domain="law")
        'domains?domain=law'
    """
    return f"{page}?{urlencode(query)}"


def minute(stamp: str | None) -> str:
    """Return a time of the store to the minute.

    Example:
        >>> minute("2026-01-02T03:04:05.678+00:00")
        '2026-01-02 03:04'
    """
    return moment(stamp or "")[:16]


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


def csv(table: pd.DataFrame) -> bytes:
    """Return a table as a CSV file in which no spreadsheet takes a text for a formula."""
    texts = table.select_dtypes(["object", "string"]).columns
    safe = {name: table[name].map(_without_formula) for name in texts}
    return table.assign(**safe).to_csv(index=False).encode()


def _without_formula(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return f"'{value}" if is_formula else value


# Domains, documents, runs and snapshots


def domains_table(summaries: Sequence[DomainSummary]) -> pd.DataFrame:
    """Return one row a domain, live or not."""
    counts = ("num_texts", "num_facts", "num_held_out", "num_tokens", "num_experts")
    table = _fields(summaries, "domain", "label", *counts, "size_bytes", "changed_at")
    table.insert(1, "state", [describe_state(one) for one in summaries])
    return table.assign(changed_at=table["changed_at"].map(minute))


def live_domains_table(
    summaries: Iterable[DomainSummary], report: EvaluationReport | None
) -> pd.DataFrame:
    """Return one row a live domain with what an evaluation measured of it; NaN: not measured."""
    live = [one for one in summaries if one.is_live]
    table = _fields(live, "domain", "label", "num_texts", "num_facts", "size_bytes")
    table.insert(1, "open", [address("domains", domain=one.domain) for one in live])
    table.insert(2, "state", [describe_state(one) for one in live])
    routing = [report.routing_of(one.domain) if report else None for one in live]
    table["base_loss_nats"] = [row.base_loss_nats if row else np.nan for row in routing]
    table["loss_nats"] = [row.loss_nats if row else np.nan for row in routing]
    table["gain_nats"] = table["base_loss_nats"] - table["loss_nats"]
    for wording in ("taught", "paraphrase"):
        asked = [report.recall_of(one.domain, wording) if report else None for one in live]
        table[wording] = [row.routed if row else np.nan for row in asked]
    return table


def versions_table(detail: DomainDetail) -> pd.DataFrame:
    """Return one row a version that was ever made of a domain, the newest first."""
    live = {segment.id for segment in detail.chain}
    newest = detail.versions[::-1]
    table = _fields(newest, "label", "num_tokens", "num_experts", "size_bytes", "created_at")
    states = ["purged" if s.is_purged else "live" if s.id in live else "not live" for s in newest]
    table.insert(1, "state", states)
    table["training_loss"] = [end_mean([train for _, train, _ in s.losses]) for s in newest]
    table["validation_loss"] = [
        next((nats for _, _, nats in reversed(s.losses) if nats is not None), None) for s in newest
    ]
    table["took"] = [duration(s.seconds) if s.seconds else "" for s in newest]
    table["created_at"] = table["created_at"].map(minute)
    return table.astype({"training_loss": float, "validation_loss": float})


def end_mean(losses: Sequence[float]) -> float | None:
    """Return the mean over the last tenth of a run's losses; None where there are none.

    Example:
        >>> end_mean([9.0] * 18 + [2.0, 4.0]), end_mean([5.0, 3.0]), end_mean([])
        (3.0, 3.0, None)
    """
    last = losses[-max(1, round(len(losses) / 10)) :]
    return sum(last) / len(last) if last else None


def losses_table(losses: Sequence[tuple[int, float, float | None]], version: str) -> pd.DataFrame:
    """Return a run's losses in long form.

    Returns: version, step, kind (training or validation), loss and, of training losses, smoothed.
    """
    table = pd.DataFrame(losses, columns=["step", TRAINING, VALIDATION]).astype(float)
    window = max(1, round(SMOOTHED_SHARE * len(table)))
    smoothed = table[TRAINING].rolling(window, min_periods=1, center=True).mean()
    long = table.assign(smoothed=smoothed).melt(
        ["step", "smoothed"], [TRAINING, VALIDATION], "kind", "loss"
    )
    return long.dropna(subset="loss").assign(version=version)


def documents_table(documents: Sequence[Document]) -> pd.DataFrame:
    """Return one row a document of a domain."""
    table = _fields(
        documents, "title", "kind", "split", "num_tokens", "base_nats", "nats", "source"
    )
    table.insert(1, "open", [address("document", id=one.document_id) for one in documents])
    return table.astype({"base_nats": float, "nats": float})


def matching(documents: Iterable[Document], words: str) -> list[Document]:
    """Return the documents whose title or source has all words, or whose id begins so."""
    wanted = words.casefold().split()

    def fits(one: Document) -> bool:
        names = f"{one.title} {one.source}".casefold()
        return all(word in names for word in wanted) or one.document_id.startswith(words.strip())

    return [one for one in documents if fits(one)]


def places_table(places: Sequence[DocumentPlace]) -> pd.DataFrame:
    """Return one row a version that holds a document."""
    table = _fields([place.document for place in places], "domain", "split", "base_nats", "nats")
    table.insert(1, "open", [address("domains", domain=p.document.domain) for p in places])
    table.insert(2, "label", [place.label for place in places])
    table.insert(3, "state", ["live" if place.is_live else "not live" for place in places])
    table["snapshot_id"] = [place.snapshot_id for place in places]
    table["created_at"] = [minute(place.created_at) for place in places]
    return table.astype({"base_nats": float, "nats": float})


def document_experts_table(
    experts: Sequence[DocumentExpert], places: Iterable[DocumentPlace]
) -> pd.DataFrame:
    """Return the experts that hold a document, in their order.

    Args:
        experts: of the versions that hold it.
        places: where it is held.
    """
    by_segment = {place.document.segment_id: place for place in places}
    held = [by_segment[one.segment_id] for one in experts]
    table = _fields(experts, "weight", "share", "num_documents")
    table.insert(0, "domain", [place.document.domain for place in held])
    table.insert(1, "label", [place.label for place in held])
    table.insert(2, "expert", [f"{one.host_layer}:{one.expert}" for one in experts])
    table.insert(
        3,
        "open",
        [
            expert_address(place.document.domain, place.label, one.host_layer, one.expert)
            for one, place in zip(experts, held, strict=True)
        ],
    )
    return table


def events_table(events: Sequence[Event]) -> pd.DataFrame:
    """Return one row an event, in the order given."""
    table = _fields(events, "at", "author", "action", "domain", "label", "snapshot_id", "message")
    return table.assign(at=table["at"].map(minute))


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row a run, in the order given."""
    table = _fields(runs, "kind", "domain", "started_at", "snapshot_id", "author")
    table.insert(0, "run", [address("ingest", run=one.id) for one in runs])
    table.insert(3, "state", [run_state(one) for one in runs])
    table["took"] = [_took(one) for one in runs]
    table["note"] = [one.error or one.note for one in runs]
    table["started_at"] = table["started_at"].map(minute)
    return table.astype({"snapshot_id": "Int64"})


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

    Args:
        snapshots: those to label.
        events: every event, the newest first; the oldest of a snapshot made it.
        live_id: of the live snapshot.
    """
    made = {event.snapshot_id: event for event in events}
    labels = {}
    for one in snapshots:
        event = made.get(one.id)
        subject = f"{event.domain} " if event and event.domain else ""
        words = [f"{subject}{one.action}", minute(one.created_at), *["live"] * (one.id == live_id)]
        labels[one.id] = f"{one.id}: {', '.join(words)}"
    return labels


def changes_table(before: Snapshot, after: Snapshot) -> pd.DataFrame:
    """Return one row a domain that differs between two snapshots."""
    rows = [(one.domain, ", ".join(one.words)) for one in changes(before, after)]
    return pd.DataFrame(rows, columns=["domain", "change"])


def spans_table(snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """Return the stretches of snapshots in which each domain was in one state.

    Args:
        snapshots: oldest first.

    Returns: domain, label, is_frozen, is_enabled, first (snapshot) and end (that after the last).
    """
    begun: dict[str, tuple[DomainState, int]] = {}
    spans: list[tuple[DomainState, int, int]] = []
    for snapshot in snapshots:
        for name in [name for name, (old, _) in begun.items() if snapshot.state(name) != old]:
            spans.append((*begun.pop(name), snapshot.id))
        for state in snapshot.domains:
            begun.setdefault(state.domain, (state, snapshot.id))
    end = snapshots[-1].id + 1 if snapshots else 0
    spans += [(*one, end) for one in begun.values()]
    table = _fields([state for state, _, _ in spans], "domain", "label", "is_frozen", "is_enabled")
    table["first"] = [first for _, first, _ in spans]
    table["end"] = [last for _, _, last in spans]
    return table.sort_values(["domain", "first"], ignore_index=True)


# An evaluation

ABSOLUTE, FROM_BASE, BY_INGEST, FORGOT = (
    "loss",
    "change from the base",
    "change by this ingest",
    "forgetting",
)
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
    """Return the matrix in long form, a row a cell.

    Args:
        report: of an evaluation.
        mode: which of MODES `value` is; cells without one are NaN.

    Returns: step (0: the base), after, place, domain, base_loss_nats, loss_nats, value, and kept:
        the share of the domain's gain right after learning that is left.
    """
    num = len(report.domains)
    losses = np.array(report.matrix.loss_nats, dtype=float)
    came = np.vstack([losses[1:-1], report.matrix.coming_nats])
    right_after = came.diagonal()
    is_learned = np.arange(num + 1)[:, None] > np.arange(num)
    values = {
        ABSOLUTE: losses,
        FROM_BASE: losses - losses[:1],
        BY_INGEST: np.vstack([np.full(num, np.nan), came - np.array(report.matrix.before_nats)]),
        FORGOT: np.where(is_learned, losses - right_after, np.nan),
    }[mode]
    kept = np.full_like(losses, np.nan)
    for step, place in zip(*is_learned.nonzero(), strict=True):
        share = metrics.efficiency(losses[0, place], right_after[place], losses[step, place])
        kept[step, place] = np.nan if share is None else share
    steps, places = (axis.ravel() for axis in np.indices(losses.shape))
    rows = [BASE, *(f"after {domain}" for domain in report.domains)]
    return pd.DataFrame(
        {
            "step": steps,
            "after": [rows[step] for step in steps],
            "place": places,
            "domain": [report.domains[place] for place in places],
            "base_loss_nats": losses[0, places],
            "loss_nats": losses.ravel(),
            "value": values.ravel(),
            "kept": kept.ravel(),
        }
    )


def matrix_csv(report: EvaluationReport) -> bytes:
    """Return every view of the matrix as a CSV file, a row a cell."""
    table = matrix_table(report).drop(columns="value")
    for mode in (FROM_BASE, BY_INGEST, FORGOT):
        table[mode.replace(" ", "_")] = matrix_table(report, mode)["value"]
    return csv(table.assign(snapshot=report.snapshot))


def exchange_table(report: EvaluationReport) -> pd.DataFrame:
    """Return what each domain gained when it was learned and forgot since: domain, what, nats."""
    right_after = np.array([*report.matrix.loss_nats[1:-1], report.matrix.coming_nats]).diagonal()
    gained = np.array(report.matrix.loss_nats[0]) - right_after
    forgot = np.array(report.matrix.loss_nats[-1]) - right_after
    wide = {"domain": report.domains, "gained when learned": gained, "forgotten since": forgot}
    return pd.DataFrame(wide).melt("domain", var_name="what", value_name="nats")


def metrics_table(report: EvaluationReport) -> pd.DataFrame:
    """Return the metrics of continual learning with their units, senses and meanings."""
    rows = []
    for name, (title, meaning) in MEANINGS.items():
        value = getattr(report.metrics, name)
        rows.append((title, "–" if value is None else f"{value:+.4f}", *METRICS[name], meaning))
    return pd.DataFrame(rows, columns=["metric", "value", "unit", "sense", "meaning"])


def routing_table(report: EvaluationReport) -> pd.DataFrame:
    """Return one row a domain: its losses and how well the router finds it."""
    losses = ("base_loss_nats", "oracle_loss_nats", "loss_nats", "reduction")
    found = ("efficiency", "efficiency_continuation", "found", "max_added_nats")
    table = _fields(report.routing, "domain", "documents", *losses, *found)
    return table.astype({"efficiency": float, "efficiency_continuation": float})


def background_table(report: EvaluationReport) -> pd.DataFrame:
    """Return one row a source of text that no domain teaches."""
    losses = ("base_loss_nats", "loss_nats", "max_added_nats")
    return _fields(report.background, "source", "kind", "documents", "identical", *losses)


def recall_table(report: EvaluationReport) -> pd.DataFrame:
    """Return one row a domain and wording: recall of the base, as routed, and of its own pool."""
    return _fields(report.recall, "domain", "wording", "num", "base", "routed", "oracle")


def mean_recall(report: EvaluationReport, wording: str) -> float | None:
    """Return the share of all questions in a wording that the routed model answers exactly."""
    rows = [row for row in report.recall if row.wording == wording]
    num = sum(row.num for row in rows)
    return sum(row.routed * row.num for row in rows) / num if num else None


def mean_gain(report: EvaluationReport) -> float:
    """Return the base's loss less the mixture's, nats a token, averaged over domains."""
    gains = [row.base_loss_nats - row.loss_nats for row in report.routing]
    return sum(gains) / len(gains)


def mixture_log_probs(item: HeldOutScores, prior: float) -> NDArray[np.float64] | None:
    """Return the mixture's log probability of each token, all domains active from the first.

    As `peer_cl.mixture.mixture_log_probs`, without torch; a test holds them equal.

    Args:
        item: the base's and every enabled version's scores of a document.
        prior: of one domain.

    Returns: (T,), nats; None where a version has not scored the document.
    """
    if item.active_log_probs is None:
        return None
    num = len(item.active_log_probs)
    log_priors = np.log([1 - prior * num, *[prior] * num])
    branches = np.vstack([item.base_log_probs, item.active_log_probs])
    joint = np.logaddexp.reduce(log_priors[:, None] + branches.cumsum(axis=1), axis=0)
    mixed: NDArray[np.float64] = np.diff(joint, prepend=0.0)
    return mixed


def held_out_table(items: Sequence[HeldOutScores], prior: float) -> pd.DataFrame:
    """Return one row a held-out document, the one that gained least first."""
    table = _fields(items, "title", "source")
    table.insert(1, "open", [address("document", id=one.document_id) for one in items])
    num_tokens = np.array([len(one.log_probs) for one in items])
    mixed = [mixture_log_probs(one, prior) for one in items]
    table.insert(2, "num_tokens", num_tokens)
    sums = {
        "base_loss_nats": [-one.base_log_probs.sum() for one in items],
        "oracle_loss_nats": [-one.log_probs.sum() for one in items],
        "loss_nats": [np.nan if one is None else -one.sum() for one in mixed],
    }
    for place, (name, values) in enumerate(sums.items(), start=3):
        table.insert(place, name, np.array(values, dtype=float) / num_tokens)
    table.insert(6, "gain_nats", table["base_loss_nats"] - table["loss_nats"])
    table.insert(7, "added_nats", -table["gain_nats"] * num_tokens)
    return table.sort_values("gain_nats", ignore_index=True)


# Experts


def layer_experts(uses: Iterable[ExpertUse], segment: Segment, host_layer: int) -> pd.DataFrame:
    """Return one row an expert of a segment's host layer, used or not.

    Returns: expert (its number), i and j (its sub-keys' numbers), weight (the router's, summed over
        what was learned), share (of the layer's weight), num_documents, effective_documents.
    """
    own = [one for one in uses if (one.segment_id, one.host_layer) == (segment.id, host_layer)]
    used = _fields(own, "expert", "weight", "num_documents", "effective_documents")
    num = segment.num_experts // max(1, len(segment.host_layers))
    table = used.set_index("expert").reindex(range(num)).fillna(0).rename_axis("expert")
    side = max(1, round(num**0.5))
    total = float(table["weight"].sum()) or 1.0
    table = table.reset_index().assign(share=table["weight"].to_numpy() / total)
    return table.assign(i=table["expert"] // side, j=table["expert"] % side)


def experts_table(experts: Sequence[Expert], domain: str) -> pd.DataFrame:
    """Return one row an expert with the tokens that it promotes."""
    table = _fields(experts, "label", "weight_share", "num_documents", "effective_documents")
    table.insert(0, "expert", [f"{one.host_layer}:{one.expert}" for one in experts])
    addresses = [expert_address(domain, e.label, e.host_layer, e.expert) for e in experts]
    table.insert(1, "open", addresses)
    table["promotes"] = ["  ".join(map(visible, one.promotes)) for one in experts]
    return table


def expert_address(domain: str, version: str, host_layer: int, expert: int) -> str:
    """Return the address of one expert's page."""
    return address("experts", domain=domain, version=version, layer=host_layer, expert=expert)


def held_table(held: HeldBy) -> pd.DataFrame:
    """Return the documents that use an expert, the one with the largest share first."""
    table = _fields(held.documents, "title", "kind", "source")
    table.insert(1, "open", [address("document", id=one.document_id) for one in held.documents])
    table.insert(2, "share", held.shares)
    return table


# A trace


def visible(text: str) -> str:
    """Return a token so that its blanks and line ends are seen.

    Example:
        >>> visible(" fever"), visible("\\n")
        ('␣fever', '⏎')
    """
    return "".join("␣" if letter == " " else _drawn(letter) for letter in text) or "∅"


def _drawn(letter: str) -> str:
    signs = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
    is_control = unicodedata.category(letter).startswith("C")
    return signs.get(letter, "·" if is_control else letter)


def text_table(tokens: Sequence[TracedToken], num_columns: int) -> pd.DataFrame:
    """Return where each token stands when a text is set in lines of a fixed-width font.

    Returns: token (from 1), shown (its letters) and left (where they begin), seen, line, start and
        end (columns), heaviest (the branch with the largest weight when the token is predicted),
        weight, base_loss_nats and loss_nats.
    """
    rows = []
    line = place = 0
    for number, token in enumerate(tokens, start=1):
        shown = "".join(map(_drawn, token.text)) or "∅"
        if place and place + _width(shown) > num_columns:
            line, place = line + 1, 0
        weights = {BASE: token.base_weight, **token.weights}
        heaviest = max(weights, key=lambda name: weights[name])
        rows.append(
            {
                "token": number,
                "shown": shown.strip(" "),
                "seen": visible(token.text),
                "line": line,
                "start": place,
                "left": place + len(shown) - len(shown.lstrip(" ")),
                "end": place + _width(shown),
                "heaviest": heaviest,
                "weight": weights[heaviest],
                "base_loss_nats": -token.base_log_prob,
                "loss_nats": -token.log_prob,
            }
        )
        place += _width(shown)
        if "\n" in token.text:
            line, place = line + 1, 0
    return pd.DataFrame(rows)


def _width(text: str) -> int:
    """Return how many columns of a fixed-width font a text takes."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def weights_table(tokens: Iterable[TracedToken]) -> pd.DataFrame:
    """Return each branch's weight when each token is predicted."""
    rows = [
        (number, visible(token.text), branch, weight)
        for number, token in enumerate(tokens, start=1)
        for branch, weight in {BASE: token.base_weight, **token.weights}.items()
    ]
    return pd.DataFrame(rows, columns=["token", "seen", "branch", "weight"])


def evidence_table(trace: Trace) -> pd.DataFrame:
    """Return each branch's weight after the text, and its evidence: log odds over the base."""
    rows = [(BASE, trace.base_weight, 0.0)]
    rows += [(name, weight, trace.evidence[name]) for name, weight in trace.weights.items()]
    table = pd.DataFrame(rows, columns=["branch", "posterior", "evidence"])
    return table.sort_values("posterior", ascending=False, ignore_index=True)


def next_tokens_table(base: Sequence[NextToken], mixture: Sequence[NextToken]) -> pd.DataFrame:
    """Return the likeliest next tokens of the base and of the mixture, side by side."""
    return pd.DataFrame(
        [
            (visible(one.text), one.probability, visible(other.text), other.probability)
            for one, other in zip(base, mixture, strict=True)
        ],
        columns=[BASE, "base_probability", MIXTURE, "mixture_probability"],
    )


def traced_experts_table(
    experts: Sequence[TracedExpert], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Return active experts in their order.

    Args:
        experts: of a trace.
        labels: of versions, by their segment's id.
    """
    table = _fields(experts, "domain", "strength", "weight")
    table.insert(1, "label", [labels[one.segment_id] for one in experts])
    table.insert(2, "expert", [f"{one.host_layer}:{one.expert}" for one in experts])
    table["open"] = [
        expert_address(one.domain, labels[one.segment_id], one.host_layer, one.expert)
        for one in experts
    ]
    return table


def ranked_documents_table(documents: Sequence[RankedDocument]) -> pd.DataFrame:
    """Return the documents whose experts a text uses, in their order."""
    table = _fields(documents, "domain", "title", "score", "kind", "source")
    table.insert(2, "open", [address("document", id=one.document_id) for one in documents])
    return table
