"""Domains: all of them as a table, and one of them in detail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import domains as charts
from app.dashboard.charts import history as history_charts
from app.dashboard.choosing import clicked_row, marked
from app.dashboard.columns import count_columns
from app.dashboard.domain_actions import show_actions
from app.dashboard.domain_corpus import last_documents, show_corpus
from app.dashboard.domain_costs import show_costs
from app.dashboard.domain_weights import show_weights
from app.dashboard.frames import domains as frames
from app.dashboard.frames import history as history_frames
from app.dashboard.frames import learning
from app.dashboard.frames.learning import VALIDATION
from app.dashboard.links import empty_store, warn_of_unknown
from app.dashboard.outcome import show_outcome
from app.dashboard.page import View, page, plain
from app.output import size
from app.reading import state_in_words
from pipelines.documents import several

if TYPE_CHECKING:
    from stores import DomainDetail, DomainSummary

_TABLE = "all-domains"
_CHOSEN = "domain"
_MOST_RUNS = 8
_STATE_WIDTH = 125
"""Pixels; "frozen, disabled" is the longest. Left to itself the column is cut in a small window."""


@page("Domains", "Each domain's corpus, versions and state, and what can be done with it.")
def show(seen: View) -> None:
    """Show the page."""
    show_outcome(seen, "Domains")
    if not seen.domains:
        empty_store()
        return
    names = [item.domain for item in seen.domains]
    warn_of_unknown(_CHOSEN, "domain", names)
    _mark_chosen(names)
    st.caption("Click a row to see the domain below, or choose it from the list.")
    _show_all(seen, names)
    domain = st.selectbox(
        "Domain",
        names,
        index=None,
        placeholder="Choose a domain, here or in the table",
        key=_CHOSEN,
        bind="query-params",
    )
    if domain is None:
        st.info("Choose a domain to see its corpus, versions and state, and to act on it.")
        return
    _show_detail(seen, cached.domain_detail(seen, domain))


def _show_all(seen: View, names: list[str]) -> None:
    config = st.column_config
    st.dataframe(
        frames.all_domains(seen.domains),
        hide_index=True,
        key=_TABLE,
        on_select=_choose_row,
        selection_mode="single-cell",
        column_config={
            "domain": config.TextColumn("domain", pinned=True),
            "state": config.TextColumn("state", width=_STATE_WIDTH),
            "segments": config.NumberColumn("segments", help="Ingests in its live version."),
            **count_columns(),
            "experts": config.NumberColumn("experts", format="localized", help="Rows of its pool."),
            "size_bytes": config.NumberColumn(
                "in use", format="bytes", help="Of the pools of its live version."
            ),
            "kept_bytes": config.NumberColumn(
                "on disk",
                format="bytes",
                help="Of the pools of all its versions, live or not, until they are purged.",
            ),
            "changed": config.TextColumn("changed (UTC)"),
        },
        alt="All domains, live or not; click a row to see a domain in detail",
    )
    st.session_state["domain-names"] = names


def _choose_row() -> None:
    row, names = clicked_row(st.session_state[_TABLE]), st.session_state["domain-names"]
    if row is not None and row < len(names):
        st.session_state[_CHOSEN] = names[row]


def _mark_chosen(names: list[str]) -> None:
    """Mark in the table the domain that the list or the address chose, so that they agree."""
    chosen = st.session_state.get(_CHOSEN, st.query_params.get(_CHOSEN))
    st.session_state[_TABLE] = marked(names.index(chosen) if chosen in names else None, "domain")


def _show_detail(seen: View, detail: DomainDetail) -> None:
    st.subheader(plain(detail.summary.domain), anchor=False, divider="gray")
    _show_figures(seen, detail)
    if _is_out(detail.summary):
        item = detail.summary
        st.info(
            f"It is out of the store, and {several(item.kept_documents, 'document')} with "
            f"{size(item.kept_bytes)} of pools are still on disk until it is purged; “Act” brings "
            "it back or purges it.",
            icon=":material/undo:",
        )
    parts: dict[str, Callable[[View, DomainDetail], None]] = {
        "Versions": _show_versions,
        "Corpus": show_corpus,
        "Learning": _show_learning,
        "Cost": show_costs,
        "Weight": show_weights,
        "Events": _show_events,
        "Act": show_actions,
    }
    warn_of_unknown("part", "part of a domain", parts)
    part = st.segmented_control(
        "What to show",
        list(parts),
        default="Versions",
        key="part",
        bind="query-params",
        required=True,
    )
    parts[part or "Versions"](seen, detail)


def _is_out(item: DomainSummary) -> bool:
    """Return whether a domain is out of the store while its bytes are left."""
    return not item.is_live and not item.is_purged


def _last_label(seen: View, domain: str) -> str:
    """Return at which version a domain was when it was taken out."""
    last = cached.last_state(seen, domain)
    return f"was {last.label}" if last else "none"


def _show_figures(seen: View, detail: DomainDetail) -> None:
    item = detail.summary
    with st.container(horizontal=True):
        for name, value in _out(seen, item) if _is_out(item) else _in_use(seen, detail):
            st.metric(name, value, border=True, width="content")


def _out(seen: View, item: DomainSummary) -> list[tuple[str, str]]:
    """Return the figures of a domain that is out: of what is in use there are none but zeros."""
    return [
        ("State", state_in_words(item)),
        ("Version", _last_label(seen, item.domain)),
        ("Documents kept", f"{item.kept_documents:,}"),
        ("Pools on disk", size(item.kept_bytes)),
    ]


def _in_use(seen: View, detail: DomainDetail) -> list[tuple[str, str]]:
    """Return the figures of a live domain, and what its versions that are not live keep besides."""
    item = detail.summary
    layers = len({layer for segment in detail.chain for layer in segment.host_layers})
    on_disk = [("Pools on disk", size(item.kept_bytes))] * (item.kept_bytes != item.size_bytes)
    return [
        ("State", state_in_words(item)),
        ("Version", item.label or _last_label(seen, item.domain)),
        ("Texts learned", f"{item.num_texts:,}"),
        ("Facts", f"{item.num_facts:,}"),
        ("Texts held out", f"{item.num_held_out:,}"),
        ("Training tokens", f"{item.num_tokens:,}"),
        ("Pools in use", size(item.size_bytes)),
        *on_disk,
        (f"Experts in {layers} layers", f"{item.num_experts:,}"),
    ]


def _show_versions(seen: View, detail: DomainDetail) -> None:
    found = cached.snapshots(seen)
    spans = history_frames.spans(found, detail.summary.domain)
    # A single stretch that lasts until now says nothing that the table below does not.
    if len(spans) > 1 or spans["until"].any():
        st.caption(
            "When each version was live, from snapshot to snapshot. Pale: disabled. Dotted line: "
            "frozen. Grey column: the live snapshot."
        )
        st.altair_chart(
            history_charts.versions(spans, seen.colours, found),
            alt="When each version of the domain was live, by snapshot",
        )
    config = st.column_config
    st.dataframe(
        frames.versions(detail),
        hide_index=True,
        placeholder="–",
        column_config={
            "state": config.TextColumn("state", width=_STATE_WIDTH),
            "kind": config.TextColumn("kind", help="rows: learned; mask: older rows, off."),
            "tokens": config.NumberColumn("training tokens", format="localized"),
            "experts": config.NumberColumn("experts", format="localized"),
            "size_bytes": config.NumberColumn("size", format="bytes"),
            "end_loss": config.NumberColumn(
                "weighted loss",
                format="%.3f",
                help=f"Mean over the last tenth of the run. {learning.WEIGHTED}",
            ),
            "validation": config.NumberColumn(
                "validation loss",
                format="%.3f",
                help="The last one, on texts that are not learned, nats a token.",
            ),
            "seconds": config.NumberColumn("seconds", format="%.0f", help="Of training."),
            "made": config.TextColumn("made (UTC)"),
        },
        alt="Every version of the domain: its state, size, losses and when it was made",
    )


def _show_learning(seen: View, detail: DomainDetail) -> None:
    table = frames.losses(detail, most_runs=_MOST_RUNS)
    if table.empty:
        st.info("No run of this domain kept its losses: it was purged, or nothing was trained.")
        return
    num_runs = sum(bool(run.losses) for run in detail.runs)
    documents = last_documents(seen, detail) if detail.summary.is_live else ()
    bases = learning.base_losses(detail, documents, _base_on_test(seen, detail.summary.domain))
    ends = learning.fact_ends(detail, documents)
    st.caption(
        f"Loss by training step: lower is better. {learning.WEIGHTED} Faint: on what each step "
        f"read; solid: its mean over {learning.WINDOW_SHARE:.0%} of the run; dashed: on "
        "validation texts, which are not learned."
        + (" Grey, across: the base alone, on what was learned." * (len(bases) > 0))
        + (" Grey, dashed: on the texts held out to test." * (VALIDATION in set(bases["kind"])))
        + (
            " Dotted, upwards: about here the facts are over and a part of the texts is read once "
            "more. The loss of a step rises, since texts cost more than facts that were read "
            "often; nothing is unlearned." * (len(ends) > 0)
        )
        + (f" The newest {_MOST_RUNS} of {num_runs} runs." * (num_runs > _MOST_RUNS))
    )
    st.altair_chart(
        charts.losses(table, seen.colours[detail.summary.domain], bases=bases, ends=ends),
        alt="Training and validation loss by step of each run, nats a token",
    )
    _show_settings(detail)


def _base_on_test(seen: View, domain: str) -> float | None:
    """Return the base's loss on a domain's test texts, of the newest evaluation that has it."""
    for evaluation in reversed(cached.evaluations(seen)):
        for row in evaluation.report["mixture"]:
            if row["domain"] == domain:
                return float(row["base_loss_nats"])
    return None


def _show_settings(detail: DomainDetail) -> None:
    table, num_differing = frames.run_settings(detail, most_runs=_MOST_RUNS)
    if table.empty:
        return
    st.markdown("**How it was trained**")
    st.caption(
        f"{several(num_differing, 'setting')} with another value than today's default, at the top. "
        "–: not recorded, so as it was by default then."
    )
    st.dataframe(
        table.replace("", None),
        hide_index=True,
        placeholder="–",
        column_config={
            "setting": st.column_config.TextColumn("setting", pinned=True),
            "meaning": st.column_config.TextColumn("meaning", width="large"),
        },
        alt="Settings of each version's training, those that differ from the defaults first",
    )


def _show_events(seen: View, detail: DomainDetail) -> None:
    st.dataframe(
        history_frames.events(detail.events, cached.snapshots(seen), cached.masks(seen)),
        hide_index=True,
        column_config={
            "at": st.column_config.TextColumn("at (UTC)"),
            "why": st.column_config.TextColumn("why", width="large"),
        },
        alt="What was done to the domain, the newest first: when, who, act, version, why",
    )
