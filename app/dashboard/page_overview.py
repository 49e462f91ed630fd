"""Overview: what is live, what it gained, what is wrong, and what ran last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.dashboard import tables
from app.dashboard.columns import show_table
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import View, evaluations, is_current, page, plain, say_empty, show_figures
from app.look import describe_state
from pipelines.report import EvaluationReport
from stores.queries import DomainSummary

NUM_RUNS = 5
_SHOW = {
    "error": (st.error, ":material/error:"),
    "warning": (st.warning, ":material/warning:"),
    "note": (st.info, ":material/info:"),
}
"""How a problem is shown, the worst first."""


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
    config, num = seen.store.registry.config, len(seen.live.domains)
    live = f"{num} of {config.capacity} domains live"
    st.caption(plain(f"Base {config.base_id} · {live} · budget {config.budget:g}"))
    if not seen.domains:
        say_empty(seen)
        return
    found = evaluations(seen)
    report = EvaluationReport.from_json(found[0].report) if found else None
    is_stale = bool(found) and not is_current(seen, found[0])
    _show_problems(seen, list(find_problems(seen, report, is_stale)))
    if report:
        _show_figures(report)
    _show_domains(seen, report)
    st.subheader("Newest runs", anchor=False)
    show_table(tables.runs_table(seen.queries.runs(NUM_RUNS)), "The newest runs")


def find_problems(seen: View, report: EvaluationReport | None, is_stale: bool) -> Iterator[Problem]:
    """Yield what is wrong.

    Args:
        seen: the store.
        report: of the newest evaluation.
        is_stale: it is of other versions than those that are live.
    """
    for one in st.session_state.get(_checked_key(seen), ()):
        yield Problem(one.severity, f"{one.what}: {one.action}")
    last = {(run.kind, run.domain): run for run in reversed(seen.queries.runs(50))}
    for run in last.values():
        state = tables.run_state(run)
        if state in ("failed", "lost"):
            why = f"failed: {run.error}" if state == "failed" else "ended without a word"
            yield Problem("warning", f"The last {tables.run_name(run)} {why}.")
    if report and not report.is_within_bound:
        yield Problem(
            "error",
            f"A document lost {report.max_added_nats:.4f} nats, more than the bound of "
            f"{report.bound_nats:.4f}. This is a fault of peer-cl: please report it.",
        )
    if seen.live.domains and report is None:
        yield Problem("warning", "This store was never evaluated.", is_evaluation=True)
    elif seen.live.domains and is_stale and report:
        text = f"The newest evaluation is of snapshot {report.snapshot}, with other versions."
        yield Problem("warning", text, is_evaluation=True)


def _checked_key(seen: View) -> str:
    """Return the session key of what the full check found in this snapshot."""
    return f"checked {seen.key}"


def _show_problems(seen: View, problems: list[Problem]) -> None:
    if not problems:
        st.success("Nothing is known to be wrong.", icon=":material/check_circle:")
    for problem in sorted(problems, key=lambda one: list(_SHOW).index(one.severity)):
        say, icon = _SHOW[problem.severity]
        say(plain(problem.text), icon=icon)
    if any(problem.is_evaluation for problem in problems):
        offer_evaluation(seen)
    told = "As `peer-cl doctor` does; nothing is changed."
    if st.button("Check every byte", icon=":material/health_and_safety:", help=told):
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
    live = [one for one in seen.domains if one.is_live]
    if not live:
        say_empty(seen)
        return
    table = live_domains(live, report)
    unmeasured = [name for name in table.columns if table[name].isna().all()]
    show_table(table, "Live domains with their losses and recall", hide=unmeasured)


def live_domains(live: list[DomainSummary], report: EvaluationReport | None) -> pd.DataFrame:
    """Return one row a live domain, with what an evaluation measured of it."""
    routing = {row.domain: row for row in report.routing} if report else {}
    recall = {(row.domain, row.wording): row.routed for row in report.recall} if report else {}
    table = tables.rows(
        live,
        "domain open state label num_texts num_facts size_bytes base_loss_nats loss_nats taught "
        "paraphrase",
        open=lambda one: tables.address("domains", domain=one.domain),
        state=describe_state,
        base_loss_nats=lambda one: getattr(routing.get(one.domain), "base_loss_nats", None),
        loss_nats=lambda one: getattr(routing.get(one.domain), "loss_nats", None),
        taught=lambda one: recall.get((one.domain, "taught")),
        paraphrase=lambda one: recall.get((one.domain, "paraphrase")),
    )
    return table.assign(gain_nats=table["base_loss_nats"] - table["loss_nats"])
