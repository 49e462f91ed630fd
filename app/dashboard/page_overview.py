"""Overview: what is wrong first, then what the live snapshot knows and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached, figures, troubles
from app.dashboard.addresses import domain_address
from app.dashboard.charts import overview as charts
from app.dashboard.columns import count_columns, domain_column
from app.dashboard.current import up_to_current
from app.dashboard.figures import Figure
from app.dashboard.frames import overview as frames
from app.dashboard.links import empty_store, link
from app.dashboard.measuring import offer_measuring
from app.dashboard.page import View, page, plain
from app.dashboard.troubles import Trouble
from app.output import moment, size
from pipelines.documents import several

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

    from stores import Finding
    from stores.queries import Evaluation

_MOST_TROUBLES = 8
_LAST_JOBS = 50
_LAST_EVENTS = 200
_SHOW = {
    "error": (st.error, ":material/error:"),
    "warning": (st.warning, ":material/warning:"),
    "note": (st.info, ":material/info:"),
}


@page("Overview", "What the store knows now, what it cost, and whether anything is wrong.")
def show(seen: View) -> None:
    """Show the page."""
    _say_what_it_is(seen)
    evaluations = cached.evaluations(seen)
    top = st.container()  # what the full check finds is told first, too
    checked = _offer_doctor(seen)
    with top:
        found = find_troubles(seen, evaluations, checked or ())
        _show_troubles(found, seen.live.id)
        if any(trouble.needs_measuring for trouble in found):
            offer_measuring(seen.folder, "overview")
    if not seen.live.domains:
        if seen.domains:
            st.info("No domain is live. The page History can restore an earlier snapshot.")
        else:
            empty_store()
        return
    holding = up_to_current(evaluations, seen.live)
    if holding:
        _show_figures(holding)
    _show_domains(seen, holding)


def _say_what_it_is(seen: View) -> None:
    """Say in a line what is fixed of the store, how full it is, and what goes on in it."""
    config = seen.store.registry.config
    num_open = len(seen.store.registry.jobs.listed(only_open=True))
    on_disk = size(sum(item.kept_bytes for item in seen.domains))
    parts = [
        f"Base {config.base_id}",
        f"{len(seen.live.domains)} of {config.capacity} domains",
        f"budget {config.budget:g}",
        f"{on_disk} of pools on disk",
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            plain(" · ".join(parts)),
            width="content",
            help="The budget is the share of the answer that all pools have together; each domain "
            "has the same part of it. `peer-cl init` fixes it, the base and how many domains fit.",
        )
        if num_open:
            link("ingest", several(num_open, "open job"))
        else:
            st.caption("no open job", width="content")


def find_troubles(
    seen: View, evaluations: Sequence[Evaluation], checked: Sequence[Finding] = ()
) -> list[Trouble]:
    """Return everything that is wrong, the worst first.

    Args:
        seen: the store.
        evaluations: of the live snapshot and of those before it, the oldest first.
        checked: what the full check found, where it was run.
    """
    found = dict.fromkeys([*cached.glance(seen), *checked])
    registry = seen.store.registry
    jobs = [j for j in registry.jobs.listed(_LAST_JOBS) if not troubles.is_erased(j, registry)]
    return troubles.sort_troubles(
        [
            *troubles.of_findings(found),
            *troubles.of_evaluation(seen.live, evaluations),
            *troubles.of_jobs(jobs, evaluations, registry.history(_LAST_EVENTS)),
        ]
    )


def _show_troubles(found: Sequence[Trouble], live_id: int) -> None:
    if not found:
        st.success(
            f"Nothing is wrong: what snapshot {live_id} needs is there, and its figures are up to "
            "date.",
            icon=":material/check_circle:",
        )
    for trouble in found[:_MOST_TROUBLES]:
        say, icon = _SHOW[trouble.severity]
        say(plain(f"{trouble.what} {trouble.action}"), icon=icon)
    if len(found) > _MOST_TROUBLES:
        st.caption(f"{len(found) - _MOST_TROUBLES} more; the full check lists them all.")


def _offer_doctor(seen: View) -> tuple[Finding, ...] | None:
    """Let a person run the full check; what it found stays until the store changes."""
    key = f"doctor {cached.stamp(seen)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.button(
            "Run the full check",
            icon=":material/health_and_safety:",
            help="Reads every byte of the store, as `peer-cl doctor` does; nothing is changed.",
        )
        note = st.empty()
    if wanted:
        with st.spinner("Reading every object of the store"):
            st.session_state[key] = seen.store.registry.doctor()
    found: tuple[Finding, ...] | None = st.session_state.get(key)
    note.caption(
        "A quick look at sizes is taken by itself; the full check reads every byte."
        if found is None
        else "Every byte was read"
        + (": each has what it should have." if not found else "; what was found stands above.")
    )
    if found and len(found) > _MOST_TROUBLES:
        _show_findings(found)
    return found


def _show_findings(found: Sequence[Finding]) -> None:
    st.dataframe(
        frames.findings(found),
        hide_index=True,
        column_config={
            "severity": st.column_config.TextColumn("severity", width="small"),
            "what": st.column_config.TextColumn("what was found", width="large"),
            "action": st.column_config.TextColumn("what to do", width="medium"),
        },
        alt="What the full check found: severity, what, and what to do",
    )


def _show_figures(evaluations: Sequence[Evaluation]) -> None:
    newest = evaluations[-1]
    st.subheader("Headline figures", anchor=False)
    st.caption(
        f"Of snapshot {newest.snapshot.id}, evaluated {moment(newest.created_at)} (UTC). The small "
        "lines are earlier evaluations."
    )
    for column, figure in zip(st.columns(4), figures.headline(evaluations), strict=True):
        with column:
            _show_figure(figure)


def _show_figure(figure: Figure) -> None:
    with st.container(border=True):
        st.metric(
            figure.name,
            figure.shown,
            delta=figure.unit,
            delta_color="off",
            delta_arrow="off",
        )
        # The metric's own line has no words for those who cannot see it.
        if len(figure.past) > 1:
            st.altair_chart(charts.spark(figure.past), alt=figures.told_past(figure))
    st.caption(plain(figure.caption))
    with st.popover(figure.section, icon=":material/function:", help="Its formula."):
        st.latex(figure.formula)
        st.text(figure.symbols)
        st.caption(f"More in docs/metrics.md, section “{figure.section}”.")


def _show_domains(seen: View, evaluations: Sequence[Evaluation]) -> None:
    table = frames.live_domains(seen.domains, evaluations)
    st.subheader("Live domains", anchor=False)
    st.caption("A name opens the domain, in a new tab.")
    st.dataframe(
        table.assign(domain=table["domain"].map(domain_address)),
        hide_index=True,
        placeholder="–",
        column_config=_columns(),
        alt="Live domains: state, texts, facts, training tokens, size, losses, what is retained, "
        "cost to others, recall",
    )
    if table["loss"].notna().any():
        st.subheader("Loss before and after", anchor=False)
        st.caption("From the base alone (grey mark) to the mixture now (dot): left is better.")
        st.altair_chart(
            charts.losses(table, seen.colours),
            alt="Loss on held-out documents of each domain, nats a token: the base's and now",
        )


def _columns() -> dict[str, ColumnConfig | None]:
    config = st.column_config
    return {
        "domain": domain_column(pinned=True),
        "state": config.TextColumn("state"),
        "version": None,  # the page Domains has it; here the table shall fit at 1280 pixels
        **count_columns(),
        "size_bytes": config.NumberColumn("size", format="bytes", help="Of the pool on disk."),
        "base_loss": config.NumberColumn(
            "base's loss", format="%.3f", help="Of the base alone, nats a token."
        ),
        "loss": config.NumberColumn(
            "loss now", format="%.3f", help="With every enabled pool asked, nats a token."
        ),
        "retained": config.NumberColumn(
            "retained",
            format="percent",
            help="Share of what it gained when it was learned that is left now.",
        ),
        "cost": config.NumberColumn(
            "cost to others",
            format="%.4f",
            help="The most that another domain's loss rose when this one came, nats a token. Open "
            "the domain, Cost, to see each.",
        ),
        "recall": config.NumberColumn(
            "recall", format="percent", help="Facts answered exactly, asked as they were taught."
        ),
        "left": config.LineChartColumn(
            "loss left over time",
            help="The share of the base's loss on the same documents that is left: first 1, the "
            "base itself, then at every evaluation. Lower is better.",
        ),
    }
