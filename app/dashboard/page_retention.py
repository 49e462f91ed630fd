"""Retention: what an evaluation found, from the matrix down to single documents."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.dashboard import charts, tables
from app.dashboard.columns import show_table
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import View, is_current, page, plain, say_empty, show_figures
from pipelines.report import EvaluationReport
from stores.queries import EvaluatedSnapshot, HeldOutScores

Part = Callable[[View, EvaluationReport], None]


@page(
    "retention",
    "Retention",
    ":material/timeline:",
    "What each domain learned, and what is left of it as others came.",
)
def show(seen: View) -> None:
    """Show the page."""
    evaluated = seen.queries.evaluated()
    if not evaluated:
        if not seen.live.domains:
            say_empty(seen)
            return
        st.info(
            "This store was never evaluated. An evaluation scores held-out documents, facts and "
            "out-of-domain text.",
            icon=":material/straighten:",
        )
        offer_evaluation(seen)
        return
    chosen = _choose(seen, evaluated)
    stored = seen.queries.evaluation(chosen.snapshot_id)
    report = EvaluationReport.from_json(stored.report if stored else {})
    if not is_current(seen, chosen.snapshot_id):
        st.warning(
            f"This evaluation is of snapshot {chosen.snapshot_id}; other versions are live now.",
            icon=":material/history:",
        )
        offer_evaluation(seen)
    _show_figures(report)
    parts: dict[str, Part] = {
        "Matrix": _show_matrix,
        "Curves": _show_curves,
        "Learning and forgetting": _show_exchange,
        "Recall": _show_recall,
        "Other text": _show_background,
        "Metrics": _show_metrics,
        "Documents": _show_documents,
    }
    part = st.segmented_control(
        "Show", list(parts), default="Matrix", required=True, key="part", bind="query-params"
    )
    parts[part](seen, report)


def _choose(seen: View, evaluated: tuple[EvaluatedSnapshot, ...]) -> EvaluatedSnapshot:
    """Return the evaluation that a person chooses; at first the newest that is current."""
    by_id = {one.snapshot_id: one for one in evaluated}
    ids = sorted(by_id, reverse=True)
    first = next((number for number in ids if is_current(seen, number)), ids[0])
    snapshots = [one for one in seen.queries.snapshots() if one.id in by_id]
    labels = tables.snapshot_labels(snapshots, seen.queries.events(), seen.live.id)
    chosen = st.selectbox(
        "Evaluated snapshot", ids, index=ids.index(first), format_func=labels.__getitem__
    )
    return by_id[chosen]


def _show_figures(report: EvaluationReport) -> None:
    retention = report.metrics.retention
    gain, bound = tables.mean_gain(report), f"bound {report.bound_nats:.4f}"
    show_figures(
        [
            ("Mean gain", f"{gain:+.3f}", "nats a token", None),
            ("Retention", "–" if retention is None else f"{retention:.2%}", "of all gains", None),
            ("Forgetting", f"{report.metrics.forgetting:+.4f}", "positive = forgot", None),
            ("Worst added loss", f"{report.max_added_nats:+.4f}", bound, None),
        ]
    )
    if report.unmeasured:
        names = ", ".join(report.unmeasured)
        st.caption(plain(f"Not measured, since no text of them is held out: {names}."))


def _show_matrix(seen: View, report: EvaluationReport) -> None:
    mode = st.selectbox("Value", list(tables.MODES), key="mode", bind="query-params")
    st.caption(
        f"{tables.MODES[mode]} Rows: the base, then the store after each ingest; the last row is "
        "the evaluated snapshot."
    )
    st.altair_chart(
        charts.matrix_chart(tables.matrix_table(report, mode), mode),
        alt=f"Heat map of the {mode} of {len(report.domains)} domains after each ingest",
    )
    _offer_csv("the matrix", tables.matrix_csv(report), f"matrix-{report.snapshot}.csv")


def _show_curves(seen: View, report: EvaluationReport) -> None:
    domains = st.multiselect(
        "Domains", report.domains, default=report.domains[: charts.FEW], key="curves"
    )
    table = tables.matrix_table(report)
    if not domains:
        st.caption("Choose a domain.")
        return
    st.markdown("**Loss after each ingest** (dashed: the base)")
    st.altair_chart(
        charts.curves_chart(table, "loss_nats", seen.colours, domains),
        alt="Loss of each domain after each ingest, beside the base's",
    )
    st.markdown("**Share of the gain right after learning that is left**")
    st.altair_chart(
        charts.curves_chart(table, "kept", seen.colours, domains),
        alt="Share of each domain's first gain that is left after each ingest",
    )


def _show_exchange(seen: View, report: EvaluationReport) -> None:
    st.caption("What each domain gained when it was learned, and what it forgot since.")
    st.altair_chart(
        charts.exchange_chart(tables.exchange_table(report)),
        alt="Bars of each domain's gain and of what it forgot, nats a token",
    )


def _show_recall(seen: View, report: EvaluationReport) -> None:
    table = tables.recall_table(report)
    if table.empty:
        st.info("No facts were asked in this evaluation.", icon=":material/info:")
        return
    st.caption(
        "Questions whose whole answer is right: by the base alone, as the prompt routes them, and "
        "by the domain's own pool (oracle)."
    )
    for column, wording in zip(st.columns(2), ("taught", "paraphrase"), strict=True):
        with column:
            st.markdown("**Asked as taught**" if wording == "taught" else "**Paraphrased**")
            st.altair_chart(
                charts.recall_chart(table[table["wording"] == wording]),
                alt=f"Recall of each domain's facts, wording: {wording}",
            )
    percent = st.column_config.NumberColumn("base", format="percent")
    show_table(table, "Recall by domain and wording", column_config={"base": percent})


def _show_background(seen: View, report: EvaluationReport) -> None:
    if not report.background:
        st.info("This evaluation scored no other text.", icon=":material/info:")
        return
    st.caption(
        "Text that no domain teaches, in the worst case: every domain is active in every "
        "document. As the store is used, documents in which the router finds nothing get "
        "the bare model's own bits (unchanged). The orange line is the bound."
    )
    table = tables.background_table(report)
    st.altair_chart(
        charts.background_chart(table, report.bound_nats),
        alt="Worst added loss in each source of other text, and the bound",
    )
    show_table(table, "Sources of other text")


def _show_metrics(seen: View, report: EvaluationReport) -> None:
    show_table(tables.metrics_table(report), "Metrics with units and meanings")
    st.caption("A score is a loss with its sign flipped. The formulas are in docs/metrics.md.")
    st.markdown("**By domain**")
    show_table(tables.routing_table(report), "Losses and routing of each domain")


def _show_documents(seen: View, report: EvaluationReport) -> None:
    domain = st.selectbox("Domain", report.domains, key="domain", bind="query-params")
    near = report.near_learned.get(domain, ())
    found = [one for one in _scores(seen, report.snapshot, domain) if one.document_id not in near]
    if not found:
        st.info("No scores of its documents are stored.", icon=":material/info:")
        return
    config = seen.store.registry.config
    table = tables.held_out_table(found, config.budget / config.capacity)
    st.caption("The document that gained least comes first.")
    show_table(table, f"Held-out documents of {domain} with their losses", hide=["source"])
    _offer_csv(
        "the documents' scores",
        tables.csv(table.drop(columns="open")),
        f"documents-{domain}-{report.snapshot}.csv",
    )


def _scores(seen: View, snapshot_id: int, domain: str) -> tuple[HeldOutScores, ...]:
    """Return a domain's document scores under the versions of an evaluated snapshot."""
    snapshot = seen.queries.snapshot(snapshot_id)
    state = snapshot.state(domain)
    if state is None:
        return ()
    enabled = [one.version for one in snapshot.domains if one.is_enabled]
    live = [one.version for one in snapshot.domains]
    return seen.queries.held_out_scores(state.version, enabled, live)


def _offer_csv(what: str, content: bytes, name: str) -> None:
    st.download_button(
        f"Download {what} (CSV)", content, name, "text/csv", icon=":material/download:"
    )
