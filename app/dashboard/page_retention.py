"""Retention: what an evaluation found: the matrix, recall, other text, metrics."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.columns import show_table
from app.dashboard.page_overview import show_report
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import View, evaluations, is_current, page, plain, say_empty
from pipelines.report import EvaluationReport

ROUTING = (
    "domain documents base_loss_nats oracle_loss_nats loss_nats reduction efficiency "
    "efficiency_continuation found max_added_nats"
)
BACKGROUND = "source kind documents identical base_loss_nats loss_nats max_added_nats"


@page(
    "retention",
    "Retention",
    ":material/timeline:",
    "What each domain learned, and what is left of it as others came.",
)
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
    snapshots = [one.snapshot for one in by_id.values()]
    labels = tables.snapshot_labels(snapshots, seen.queries.events(), seen.live.id)
    chosen = by_id[st.selectbox("Evaluated snapshot", [*by_id], format_func=labels.__getitem__)]
    report = EvaluationReport.from_json(chosen.report)
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
    parts: dict[str, Callable[[View, EvaluationReport], None]] = {
        "Matrix": _show_matrix,
        "Curves": _show_curves,
        "Recall": _show_recall,
        "Other text": _show_background,
        "Metrics": _show_metrics,
    }
    part = st.segmented_control(
        "Show", list(parts), default="Matrix", required=True, key="part", bind="query-params"
    )
    parts[part](seen, report)


def _show_matrix(seen: View, report: EvaluationReport) -> None:
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


def _show_curves(seen: View, report: EvaluationReport) -> None:
    st.altair_chart(
        charts.curves_chart(tables.matrix_table(report), seen.colours),
        alt="Loss of each domain after each ingest",
    )


def _show_recall(seen: View, report: EvaluationReport) -> None:
    if not report.recall:
        st.info("No facts were asked in this evaluation.", icon=":material/info:")
        return
    st.caption("Questions whose whole answer is right.")
    table = tables.rows(report.recall, "domain wording num base routed oracle")
    show_table(table, "Recall by domain and wording")


def _show_background(seen: View, report: EvaluationReport) -> None:
    if not report.background:
        st.info("This evaluation scored no other text.", icon=":material/info:")
        return
    st.caption(
        "Text that no domain teaches, in the worst case: every domain is active in every "
        "document. As the store is used, documents in which the router finds nothing get "
        f"the bare model's own bits (unchanged). The bound is {report.bound_nats:.4f} nats."
    )
    show_table(tables.rows(report.background, BACKGROUND), "Sources of other text")


def _show_metrics(seen: View, report: EvaluationReport) -> None:
    show_table(tables.metrics_table(report), "Metrics with units and meanings")
    st.caption("A score is a loss with its sign flipped. The formulas are in docs/metrics.md.")
    st.markdown("**By domain**")
    table = tables.rows(report.routing, ROUTING)
    show_table(table, "Losses and routing of each domain")
