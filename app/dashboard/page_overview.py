"""Overview: what is live, what it gained, what is wrong, and what ran last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.columns import show_table
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import (
    View,
    is_current,
    newest_report,
    page,
    plain,
    say_empty,
    show_figures,
)
from pipelines.report import EvaluationReport
from stores.queries import Finding, Run

NUM_RUNS = 5
_SHOW = {
    "error": (st.error, ":material/error:"),
    "warning": (st.warning, ":material/warning:"),
    "note": (st.info, ":material/info:"),
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, in one sentence, and what to do about it in another."""

    severity: str
    """error, warning or note."""
    text: str
    is_evaluation: bool = False
    """An evaluation of the live snapshot puts it right."""


@page(
    "overview",
    "Overview",
    ":material/dashboard:",
    "What the store knows now, and whether anything is wrong.",
)
def show(seen: View) -> None:
    """Show the page."""
    config = seen.store.registry.config
    parts = [
        f"Base {config.base_id}",
        f"{len(seen.live.domains)} of {config.capacity} domains live",
        f"budget {config.budget:g}",
    ]
    st.caption(plain(" · ".join(parts)))
    if not seen.domains:
        say_empty(seen)
        return
    report = newest_report(seen)
    is_stale = report is not None and not is_current(seen, report.snapshot)
    _show_problems(seen, find_problems(seen, report, is_stale))
    if report:
        _show_figures(report)
    _show_domains(seen, report)
    _show_runs(seen.queries.runs(NUM_RUNS))


def find_problems(seen: View, report: EvaluationReport | None, is_stale: bool) -> list[Problem]:
    """Return what is wrong, the worst first.

    Args:
        seen: the store.
        report: of the newest evaluation.
        is_stale: it is of other versions than those that are live.
    """
    checked: Sequence[Finding] = st.session_state.get(_checked_key(seen), ())
    found = [Problem(one.severity, f"{one.what}: {one.action}") for one in checked]
    found += _of_runs(seen.queries.runs(50))
    if report and not report.is_within_bound:
        found.append(
            Problem(
                "error",
                f"A document lost {report.max_added_nats:.4f} nats, more than the bound of "
                f"{report.bound_nats:.4f}. This is a fault of peer-cl: please report it.",
            )
        )
    if seen.live.domains and report is None:
        found.append(Problem("warning", "This store was never evaluated.", is_evaluation=True))
    elif seen.live.domains and is_stale and report:
        text = f"The newest evaluation is of snapshot {report.snapshot}, with other versions."
        found.append(Problem("warning", text, is_evaluation=True))
    order = list(_SHOW)
    return sorted(found, key=lambda one: order.index(one.severity))


def _of_runs(runs: Iterable[Run]) -> list[Problem]:
    """Return the last run of each kind and domain, where it came to no good end."""
    last: dict[tuple[str, str | None], Run] = {}
    for run in runs:
        last.setdefault((run.kind, run.domain), run)
    found = []
    for run in last.values():
        state = tables.run_state(run)
        if state in ("failed", "lost"):
            why = f"failed: {run.error}" if state == "failed" else "ended without a word"
            found.append(Problem("warning", f"The last {tables.run_name(run)} {why}."))
    return found


def _checked_key(seen: View) -> str:
    """Return the session key of what the full check found in this snapshot."""
    return f"checked {seen.key}"


def _show_problems(seen: View, problems: list[Problem]) -> None:
    if not problems:
        st.success("Nothing is known to be wrong.", icon=":material/check_circle:")
    for problem in problems:
        say, icon = _SHOW[problem.severity]
        say(plain(problem.text), icon=icon)
    if any(problem.is_evaluation for problem in problems):
        offer_evaluation(seen)
    if st.button(
        "Check every byte",
        icon=":material/health_and_safety:",
        help="As `peer-cl doctor` does; nothing is changed.",
    ):
        with st.spinner("Reading every object of the store"):
            st.session_state[_checked_key(seen)] = seen.store.doctor()
        st.rerun()
    if _checked_key(seen) in st.session_state:
        st.caption("Every byte was read; what was found is above.")


def _show_figures(report: EvaluationReport) -> None:
    recall, taught = (tables.mean_recall(report, name) for name in ("paraphrase", "taught"))
    retention = report.metrics.retention
    show_figures(
        [
            (
                "Mean gain",
                f"{tables.mean_gain(report):+.3f}",
                "nats a token",
                "On held-out documents: the base's loss less the loss now, averaged over domains.",
            ),
            (
                "Retention",
                "–" if retention is None else f"{retention:.1%}",
                "of all gains",
                tables.MEANINGS["retention"][1],
            ),
            (
                "Recall, paraphrased",
                "–" if recall is None else f"{recall:.0%}",
                "not asked" if taught is None else f"{taught:.0%} as taught",
                "Questions about facts whose whole answer is right, as the prompt routes them.",
            ),
            (
                "Worst added loss",
                f"{report.max_added_nats:+.4f}",
                f"bound {report.bound_nats:.4f}",
                "The most that a scored document lost over the base, nats; positive = lost.",
            ),
        ]
    )


def _show_domains(seen: View, report: EvaluationReport | None) -> None:
    st.subheader("Live domains", anchor=False)
    table = tables.live_domains_table(seen.domains, report)
    if table.empty:
        say_empty(seen)
        return
    unmeasured = [name for name in table.columns if table[name].isna().all()]
    show_table(table, "Live domains with their losses and recall", hide=unmeasured)
    if "loss_nats" not in unmeasured:
        st.caption("From the base alone (grey) to the loss now (dot): left is better.")
        st.altair_chart(
            charts.losses_chart(table, seen.colours),
            alt="Loss on held-out documents of each domain, the base's and now",
        )


def _show_runs(runs: tuple[Run, ...]) -> None:
    st.subheader("Newest runs", anchor=False)
    if not runs:
        st.caption("None yet.")
        return
    show_table(tables.runs_table(runs), "The newest runs", hide=["author"])
