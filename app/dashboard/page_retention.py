"""Retention: what an evaluation found: the matrix, recall, other text, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.page_overview import show_answers, show_report
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import View, evaluations, is_current, page, plain, say_empty
from pipelines.report import EvaluationReport
from stores.queries import Evaluation

ROUTING = (
    "domain documents base_loss_nats oracle_loss_nats loss_nats reduction efficiency "
    "efficiency_continuation found max_added_nats"
)
ASKED = "domain source num right wrong declined num_found"
BACKGROUND = "source kind documents identical base_loss_nats loss_nats max_added_nats"


@page("retention", "timeline", "What each domain learned, and what is left of it as others came.")
def show(seen: View) -> None:
    """Show the page."""
    by_id = {one.snapshot.id: one for one in evaluations(seen)}
    if not by_id:
        if not seen.live.domains:
            say_empty(seen)
            return
        st.info("This store was never evaluated.", icon=":material/straighten:")
        offer_evaluation(seen)
        return
    lead = st.container()  # filled once a snapshot is chosen
    snapshots = [one.snapshot for one in by_id.values()]
    labels = tables.snapshot_labels(snapshots, seen.queries.events(), seen.live.id)
    chosen = by_id[st.selectbox("Evaluated snapshot", [*by_id], format_func=labels.__getitem__)]
    report = EvaluationReport.from_json(chosen.report)
    with lead:
        show_answers(report)
        _show_trust(report)
    if not is_current(seen, chosen):
        st.warning(
            f"This evaluation is of snapshot {chosen.snapshot.id}; other versions are live now.",
            icon=":material/history:",
        )
        offer_evaluation(seen)
    show_report(report)
    if report.unmeasured:
        names = ", ".join(report.unmeasured)
        st.caption(plain(f"Not measured, since no text of them is held out: {names}."))
    answers, matrix, recall, other, metrics = st.tabs(
        ["Answers", "Matrix", "Recall", "Other text", "Metrics"]
    )
    with answers:
        _show_answers(report, [*by_id.values()], seen.colours)
    with matrix:
        if report.metrics is None:
            st.info("No document is held out to measure losses on.", icon=":material/straighten:")
        else:
            _show_matrix(report)
    with recall:
        st.caption("Questions whose whole answer is right.")
        asked = tables.rows(report.recall, "domain wording num base routed oracle")
        tables.show(asked, "Recall by domain and wording")
    with other:
        st.caption(
            "Text that no domain teaches, in the worst case: every domain is active in every "
            "document. As the store is used, documents in which the router finds nothing get "
            f"the bare model's own bits (unchanged). The bound is {report.bound_nats:.4f} nats."
        )
        if report.background:
            tables.show(tables.rows(report.background, BACKGROUND), "Sources of other text")
        else:
            st.info("This evaluation scored no such text.", icon=":material/straighten:")
    with metrics:
        if report.metrics is not None:
            tables.show(tables.metrics_table(report), "Metrics with units and meanings")
        st.caption("A score is a loss with its sign flipped. The formulas are in docs/metrics.md.")
        tables.show(tables.rows(report.routing, ROUTING), "Losses and routing of each domain")


def _show_trust(report: EvaluationReport) -> None:
    """Show how far the probabilities of the answers can be trusted."""
    outcomes = [one for row in report.asked for one in row.outcomes]
    if not outcomes:
        return
    left, right = st.columns(2)
    with left:
        table = tables.risk_table(outcomes, sum(row.num for row in report.asked))
        st.altair_chart(charts.risk_chart(table), alt="Share wrong by share of questions answered")
        st.caption(
            "What share of the answers is wrong if only the surest are given: the further right, "
            "the more questions are answered."
        )
    with right:
        table = tables.reliability_table(outcomes)
        st.altair_chart(charts.reliability_chart(table), alt="Share right by probability shown")
        st.caption(
            "Each point is a group of answers: on the dashed line they are right as often as the "
            "probability says, below it less often."
        )


def _show_answers(
    report: EvaluationReport, past: Sequence[Evaluation], colours: Mapping[str, str]
) -> None:
    """Show how many kept questions are answered, and how many were in earlier evaluations."""
    st.caption(
        "Questions that nothing was trained on: made of a domain's documents and kept, or given by "
        "people."
    )
    asked = tables.rows(report.asked, ASKED, num_found=lambda one: one.found)
    tables.show(asked, "How kept questions are answered")
    table = tables.answers_table(past)
    if len(table):
        st.altair_chart(
            charts.answers_chart(table, colours),
            alt="Answered kept questions by evaluated snapshot",
        )


def _show_matrix(report: EvaluationReport) -> None:
    mode = st.selectbox("Value", list(tables.MODES), key="mode", bind="query-params")
    st.caption(
        f"{tables.MODES[mode]} Rows: the base, then the store after each ingest; the last row is "
        "the evaluated snapshot."
    )
    table = tables.matrix_table(report, mode)
    st.altair_chart(
        charts.matrix_chart(table, mode),
        alt=f"Heat map of the {mode} of {len(report.domains)} domains after each ingest",
    )
    st.download_button(
        "Download the matrix (CSV)",
        table.to_csv(index=False),
        f"matrix-{report.snapshot}.csv",
        "text/csv",
        icon=":material/download:",
    )
