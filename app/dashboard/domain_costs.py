"""The part of the page Domains that says what a domain cost the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import costs as charts
from app.dashboard.frames import costs as frames
from app.dashboard.links import link
from app.dashboard.measuring import offer_measuring

if TYPE_CHECKING:
    from app.dashboard.page import View
    from stores import DomainDetail


def show_costs(seen: View, detail: DomainDetail) -> None:
    """Show by how much every other domain's loss changed when this one came."""
    domain = detail.summary.domain
    found = [(one.snapshot.id, one.report) for one in cached.evaluations(seen)]
    at = frames.newest_with(found, domain)
    if at is None:
        _say_unmeasured(seen, detail)
        return
    snapshot_id, report = found[at]
    frame = frames.costs(report, domain)
    st.text(frames.in_words(frame, domain))
    st.caption(
        f"From the evaluation of snapshot {snapshot_id}: the loss on each domain's held-out "
        "documents just before and just after this one came. Whatever is learned, no single text "
        f"can lose more than {report['bound_nats']:.4f} nats in all "
        "over the base alone: the store's promise."
    )
    if frame.empty:
        return
    st.altair_chart(
        charts.cost_bars(frame, seen.colours),
        alt="Change of each other domain's loss, nats a token, positive = lost; "
        + ", ".join(
            f"{name} {change:+.4f}"
            for name, change in zip(frame["domain"], frame["change_nats"], strict=True)
        ),
    )
    config = st.column_config
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "learned": config.TextColumn(
                "learned", help="Before or after this domain; later ones were unknown text then."
            ),
            "before": config.NumberColumn("loss before, nats a token", format="%.4f"),
            "after": config.NumberColumn("loss after, nats a token", format="%.4f"),
            "change_nats": config.NumberColumn("change (positive = lost)", format="%+.5f"),
        },
        alt="What each other domain lost when this one came, the largest loss first",
    )
    link("retention", "All changes, ingest by ingest", mode="change against the row before")


def _say_unmeasured(seen: View, detail: DomainDetail) -> None:
    """Say why nothing is known of a domain's cost, and offer to measure what can be measured."""
    if not detail.summary.is_live:
        st.info("No evaluation measured this domain, and only what is live is.")
    elif not detail.summary.num_held_out:  # questions about facts are no texts
        st.info("This domain cannot be measured: no text of it is held out. Ingest more of it.")
    else:
        st.info("No evaluation measured this domain.")
        offer_measuring(seen.folder, "cost")
