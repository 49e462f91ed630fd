"""Retention: an evaluation's matrix, curves, general ability and metrics, down to documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import retention as charts
from app.dashboard.current import current
from app.dashboard.figures import Figure, shared
from app.dashboard.frames import retention as frames
from app.dashboard.frames.retention import MEASURES, MODES, Report
from app.dashboard.general import show_general
from app.dashboard.held_out import show_documents, to_csv
from app.dashboard.links import warn_of_unknown
from app.dashboard.measuring import offer_measuring, show_command
from app.dashboard.page import StorePlace, View, page, plain
from app.dashboard.snapshot_list import choose_snapshot
from app.output import cell, moment
from peer_cl.errors import DamageError

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.delta_generator import DeltaGenerator

    from pipelines.store import Store
    from stores import Snapshot
    from stores.queries import EvaluatedSnapshot

MATRIX, CURVES, EXCHANGE, GENERAL, OTHER, FIGURES = (
    "matrix",
    "curves",
    "learning and forgetting",
    "general ability",
    "other text",
    "metrics",
)
_MOST_NAMED = 5
"""Domains with a line of their own where there are many."""
VIEWS = (MATRIX, CURVES, EXCHANGE, GENERAL, OTHER, FIGURES)


@page("Retention", "What each domain learned, and what it kept while others came.")
def show(seen: View) -> None:
    """Show the page."""
    evaluated = seen.store.registry.evaluated()
    if not evaluated:
        _say_empty(seen)
        return
    holding = _holding(seen, evaluated)
    chosen, view = _choose(seen, evaluated, holding)
    _say_age(seen, chosen, holding)
    try:
        report, of_overview = _report(
            seen.place, chosen.snapshot_id, chosen.evaluated_at, seen.store
        )
    except DamageError as error:
        st.error(plain(str(error)), icon=":material/error:")
        offer_measuring(seen.folder, "damaged")
        return
    _headline(report, of_overview)
    warn_of_unknown("domain", "evaluated domain", report.domains)
    controls = st.columns(3 if view == MATRIX else 1)
    with controls[0]:
        domain = st.selectbox(
            "Domain",
            report.domains,
            index=None,
            placeholder="all; choose one to see its documents",
            key="domain",
            bind="query-params",
        )
    if view == MATRIX:
        _matrix(report, *controls[1:])
    elif view == CURVES:
        _curves(report, seen.colours, domain)
    elif view == EXCHANGE:
        _exchange(report, seen.colours)
    elif view == GENERAL:
        show_general(seen, report.general, report.general_left_out)
    elif view == OTHER:
        _other_text(report)
    else:
        _figures(report)
    if domain is not None:
        show_documents(seen, chosen, domain)


def _say_empty(seen: View) -> None:
    if seen.live.domains:
        st.info(
            "Nothing is evaluated yet. Every domain is to be measured on its held-out documents, "
            "and foreign text besides; this page then shows what was learned and kept.",
            icon=":material/straighten:",
        )
        offer_measuring(seen.folder, "retention")
        st.caption("Or in a terminal:")
        show_command(seen.folder, "evaluate")
    else:
        st.info(
            "No domain is live, so there is nothing to remember or forget. The page Ingest teaches "
            "the store a corpus, and measures it.",
            icon=":material/upload_file:",
        )


def _holding(seen: View, evaluated: tuple[EvaluatedSnapshot, ...]) -> Snapshot:
    """Return the evaluated snapshot whose figures tell of the live one."""
    ids = {item.snapshot_id for item in evaluated}
    return current((one for one in cached.snapshots(seen) if one.id in ids), seen.live)


def _choose(
    seen: View, evaluated: tuple[EvaluatedSnapshot, ...], holding: Snapshot
) -> tuple[EvaluatedSnapshot, str]:
    """Return the evaluation that the person wants to see, and which view of it."""
    by_id = {item.snapshot_id: item for item in evaluated}
    warn_of_unknown("snapshot", "evaluated snapshot", by_id)
    warn_of_unknown("view", "view", VIEWS)
    ids = list(by_id)
    snapshot = choose_snapshot(
        seen, "Evaluated snapshot", "snapshot", ids, index=ids.index(holding.id)
    )
    view = st.segmented_control(  # a line of its own: beside the list its last words were cut off
        "Show", VIEWS, default=MATRIX, required=True, key="view", bind="query-params"
    )
    return by_id[snapshot], view


def _say_age(seen: View, chosen: EvaluatedSnapshot, holding: Snapshot) -> None:
    """Say what was evaluated when, and whether it still holds."""
    told = f"Evaluation of snapshot {chosen.snapshot_id}, made {moment(chosen.evaluated_at)} UTC"
    if chosen.snapshot_id == seen.live.id:
        st.caption(f":material/check_circle: {told}. This snapshot is live.")
        return
    then = seen.store.registry.snapshot(chosen.snapshot_id)
    if then.index_tag == seen.live.index_tag:
        st.caption(
            f":material/check_circle: {told}. Snapshot {seen.live.id} is live, with the same "
            "versions on, so the figures hold for it too."
        )
    elif chosen.snapshot_id == holding.id:
        st.warning(
            f"{told}. It is stale: snapshot {seen.live.id} is live, and other versions are on.",
            icon=":material/history:",
        )
        offer_measuring(seen.folder, "retention")
    elif chosen.snapshot_id > holding.id:
        told += f". Other versions are on now, those of snapshot {holding.id}."
        st.info(told, icon=":material/history:")
    else:
        st.info(f"{told}. There is a newer one.", icon=":material/history:")


@st.cache_data(show_spinner=False, max_entries=16)
def _report(
    place: StorePlace, snapshot_id: int, evaluated_at: str, _store: Store
) -> tuple[Report, tuple[Figure, Figure]]:
    """Return an evaluation's report, checked, and the figures that Overview has too."""
    told = _store.registry.evaluation(snapshot_id)
    report = frames.read_report(snapshot_id, told)
    try:
        return report, shared(told or {})
    except KeyError as error:
        raise frames.damaged(snapshot_id, f"KeyError {error}") from None


def _headline(report: Report, of_overview: tuple[Figure, Figure]) -> None:
    told = report.metrics
    gain, worst = ((item.name, item.shown, item.unit, item.caption) for item in of_overview)
    forgotten = f"{told['forgetting']:.4f}".replace("-0.0000", "0.0000")
    retention = "-" if told["retention"] is None else f"{told['retention']:.2%}"
    figures = [
        gain,
        ("Retention", retention, "of all gains", frames.MEANINGS["retention"]),
        ("Forgetting", forgotten, "nats a token", frames.MEANINGS["forgetting"]),
        worst,
    ]
    for column, (name, value, unit, meaning) in zip(st.columns(len(figures)), figures, strict=True):
        with column:
            st.metric(
                name,
                value,
                delta=unit,
                delta_color="off",
                delta_arrow="off",
                help=plain(meaning),
                border=True,
            )
    st.caption(f"{_of_pools_alone(report)} {_of_foreign_text(report)}")
    if report.unmeasured:
        st.caption(
            "Not measured, since no text of them is held out and unseen: "
            + ", ".join(plain(name) for name in report.unmeasured)
        )


def _of_pools_alone(report: Report) -> str:
    """Say what the pools do to the base's loss where each speaks alone."""
    gain = sum(row["reduction"] for row in report.mixture) / max(1, len(report.mixture))
    return f"Reduction, pool alone: {gain:.1%} of the base's loss, on average over domains."


def _of_foreign_text(report: Report) -> str:
    """Say what foreign text lost; the worst added loss is over held-out documents besides."""
    worst = max((row["max_added_nats"] for row in report.background), default=None)
    told = "not scored" if worst is None else f"{worst:+.4f} nats a document"
    return f"Worst on foreign text: {told}."


def _matrix(report: Report, left: DeltaGenerator, right: DeltaGenerator) -> None:
    """Show the heat map; what it shows is chosen in two columns."""
    warn_of_unknown("metric", "measure", MEASURES)
    warn_of_unknown("mode", "way to show it", MODES)
    with left:
        measure = st.selectbox("Measure", list(MEASURES), key="metric", bind="query-params")
    with right:
        mode = st.selectbox("Shown as", list(MODES), key="mode", bind="query-params")
    st.caption(
        f"{MODES[mode]} Rows: the base, then the store after each ingest; the last row is the "
        "evaluated snapshot itself. Click a cell to see the domain's documents."
        + _COLOURS.get(mode, " Blue is better, orange worse.")
    )
    frame = frames.matrix_frame(report, measure, mode)
    st.altair_chart(
        charts.matrix_chart(
            frame, MEASURES[measure], mode, domains=report.domains, rows=report.rows
        ),
        key="matrix",
        on_select=_pick_domain,
        selection_mode=charts.CELL,
        alt=f"Heat map of {MEASURES[measure].title.lower()} ({MEASURES[measure].unit}), {mode}: "
        f"{len(report.domains)} domains by {len(report.rows)} points in time",
    )
    st.download_button(
        "Download the matrix (CSV)",
        lambda: to_csv(frames.export_frame(report)),
        f"matrix-snapshot-{report.snapshot_id}.csv",
        "text/csv",
        icon=":material/download:",
    )


_COLOURS = {
    frames.ABSOLUTE: " The stronger the blue, the better.",
    frames.TO_BEFORE: " Blue is better, orange worse; the colours span what an ingest did to other "
    "domains, and what it taught its own may lie beyond.",
}


def _pick_domain() -> None:
    """Take the clicked cell's domain."""
    domain = clicked(st.session_state["matrix"])
    if domain is not None:
        st.session_state["domain"] = domain


def clicked(event: Any) -> str | None:
    """Return the domain of the cell that was clicked, or None where the click chose none."""
    points = event["selection"].get(charts.CELL) or []
    return str(points[0]["domain"]) if points else None


def _curves(report: Report, colours: dict[str, str], domain: str | None) -> None:
    frame = frames.curves_frame(report)
    if len(report.domains) > charts.FEW:
        _spreads(report, frame, colours, domain)
        return
    for field, title, alt in (
        ("loss_nats", "Loss over the ingests; dashed: the base", "loss, with the base's as"),
        ("kept", "Share of the gain right after learning that is left", "share of the gain kept,"),
    ):
        st.subheader(title, anchor=False)
        st.altair_chart(
            charts.curves_chart(frame, field, colours, rows=report.rows, domain=domain),
            alt=f"Lines of {alt} reference, for {domain or f'{len(report.domains)} domains'} over "
            f"{len(report.rows)} points in time",
        )


def _spreads(
    report: Report, frame: pd.DataFrame, colours: dict[str, str], domain: str | None
) -> None:
    """Show many domains' mean and range: so many lines would be told apart by nobody."""
    named = [domain] if domain is not None else frames.forgot_most(report, _MOST_NAMED)
    num = len(report.domains)
    st.caption(
        f"Strong line: the mean over {num} domains; grey: from the least to the most of a domain. "
        + (
            "In colour: the chosen domain."
            if domain is not None
            else f"In colour: the {len(named)} that forgot most; choose a domain to see it alone."
        )
    )
    for field, title, alt in (
        ("loss_nats", "Loss over the ingests; dashed: the base's mean", "loss"),
        (
            "kept",
            "Share of the gain right after learning that is left; dashed: all of it",
            "share of the gain kept",
        ),
    ):
        st.subheader(title, anchor=False)
        st.altair_chart(
            charts.spread_chart(frame, field, colours, rows=report.rows, named=named),
            alt=f"Mean and range of the {alt} of {num} domains over {len(report.rows)} points in "
            f"time, with lines of {', '.join(named)}",
        )


def _exchange(report: Report, colours: dict[str, str]) -> None:
    st.caption(
        "One point a domain: to the right, it learned more; above the line, it forgot since. "
        "The axis of forgetting spans the store's bound at least."
    )
    st.altair_chart(
        charts.exchange_chart(frames.exchange_frame(report), colours, report.bound_nats),
        alt="Scatter of what each domain gained right after learning against what it forgot since",
    )


def _other_text(report: Report) -> None:
    st.subheader("Other text: what could be lost at worst", anchor=False)
    st.caption(
        "Text of no domain: prose is ordinary text, look-alikes are near a domain. The losses are "
        "of the worst case, in which every pool is asked of every document. As the store is used, "
        "a document asks only the pools whose domain it resembles, and mostly none: `identical` "
        "is the share that ask none, for which the answer is the bare base's, bit for bit. At "
        "100 % the pools change nothing here, whatever the losses beside it say."
    )
    if not report.background:
        st.info("This evaluation scored no foreign text.", icon=":material/info:")
        return
    frame = frames.background_frame(report)
    st.altair_chart(
        charts.background_chart(frame, report.bound_nats),
        alt="Bars of the worst added loss in each foreign source, with the bound as a line",
    )
    st.dataframe(frame, hide_index=True, column_config=_BACKGROUND, alt="Foreign sources")


_BACKGROUND: dict[str, Any] = {
    "source": "source",
    "kind": "kind",
    "documents": st.column_config.NumberColumn("documents"),
    "identical": st.column_config.NumberColumn(
        "identical",
        format="percent",
        help="Share of documents that ask no pool: the store then answers with the bare model's "
        "own bits. 100 % = nothing changes here in use.",
    ),
    "base_loss_nats": st.column_config.NumberColumn("base alone", format="%.4f"),
    "loss_nats": st.column_config.NumberColumn("every pool asked", format="%.4f"),
    "change_nats": st.column_config.NumberColumn("change, nats a token", format="%+.5f"),
    "max_added_nats": st.column_config.NumberColumn(
        "worst document, nats", format="%.5f", help="Added to a whole document's loss."
    ),
}


def _figures(report: Report) -> None:
    table = frames.metrics_frame(report)
    st.dataframe(
        table.assign(value=table["value"].map(cell)),
        hide_index=True,
        column_config={"meaning": st.column_config.TextColumn(width=480)},
        alt="The evaluation's metrics with unit, sense and meaning",
    )
    st.caption(
        "R[i][j] is the score on domain j after ingest i, with row 0 the base's. The formulas, "
        "each with its source and an example, stand in peer_cl/metrics.py."
    )
    st.subheader("By domain", anchor=False)
    st.dataframe(
        frames.mixture_frame(report),
        hide_index=True,
        column_config=_MIXTURE,
        alt="Losses of each domain's documents: base, own pool alone, mixture",
    )


_MIXTURE: dict[str, Any] = {
    "base_loss_nats": st.column_config.NumberColumn("base, nats a token", format="%.4f"),
    "forced_loss_nats": st.column_config.NumberColumn("its pool alone", format="%.4f"),
    "loss_nats": st.column_config.NumberColumn("mixture", format="%.4f"),
    "kept": st.column_config.NumberColumn(
        "mixture keeps of pool",
        format="percent",
        help="Share of its pool's gain that the mixture keeps; it is no matter of time. None: its "
        "pool gains nothing.",
    ),
    "reduction": st.column_config.NumberColumn(
        "reduction, pool alone", format="percent", help="Of the base's loss."
    ),
    "max_added_nats": st.column_config.NumberColumn(
        "worst held-out document, nats",
        format="%.4f",
        help="Added over the base; negative = gained.",
    ),
}
