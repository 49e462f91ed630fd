"""Overview: what is live, what it gained, and what is wrong."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.dashboard import tables
from app.dashboard.processes import offer_evaluation
from app.dashboard.state import View, evaluations, is_current, page, plain, say_empty, show_figures
from app.look import describe_state
from pipelines.report import EvaluationReport
from pipelines.words import several
from stores.queries import DomainSummary

_SHOW = {
    "error": (st.error, ":material/error:"),
    "warning": (st.warning, ":material/warning:"),
    "note": (st.info, ":material/info:"),
}
"""How a problem is shown by its severity, the worst first."""


@page("overview", "dashboard", "What the store knows now, and whether anything is wrong.")
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
    _show_problems(find_problems(seen, report))
    if seen.live.domains and not (report and is_current(seen, found[0])):
        text = "This store was never evaluated."
        if report:
            text = f"The newest evaluation is of snapshot {report.snapshot}, with other versions."
        st.warning(text, icon=":material/straighten:")
        offer_evaluation(seen)
    _offer_check(seen)
    if report:
        show_answers(report)
        show_report(report)
    _show_domains(seen, report)


def find_problems(seen: View, report: EvaluationReport | None) -> list[tuple[str, str]]:
    """Return what is wrong: its severity (of _SHOW), and a sentence."""
    checked = st.session_state.get(_checked_key(seen), ())
    found = [(one.severity, f"{one.what}: {one.action}") for one in checked]
    last = {(run.kind, run.domain): run for run in reversed(seen.queries.runs(50))}
    for run in last.values():
        if (state := tables.run_state(run)) in ("failed", "lost"):
            why = f"failed: {run.error}" if state == "failed" else "ended without a word"
            found.append(("warning", f"The last {tables.run_name(run)} {why}."))
    if report and not report.is_within_bound:
        text = (
            f"A document lost {report.max_added_nats:.4f} nats, more than the bound of "
            f"{report.bound_nats:.4f}. This is a fault of peer-cl: please report it."
        )
        found.append(("error", text))
    return found


def _checked_key(seen: View) -> str:
    """Return the session key of what the full check found in this snapshot."""
    return f"checked {seen.key}"


def _show_problems(problems: list[tuple[str, str]]) -> None:
    if not problems:
        st.success("Nothing is known to be wrong.", icon=":material/check_circle:")
    for severity, text in sorted(problems, key=lambda one: list(_SHOW).index(one[0])):
        say, icon = _SHOW[severity]
        say(plain(text), icon=icon)


def _offer_check(seen: View) -> None:
    told = "As `peer-cl doctor` does; nothing is changed."
    if st.button("Check every byte", icon=":material/health_and_safety:", help=told):
        with st.spinner("Reading every object of the store"):
            st.session_state[_checked_key(seen)] = seen.store.doctor()
        st.rerun()
    if _checked_key(seen) in st.session_state:
        st.caption("Every byte was read; what was found is above.")


def show_answers(report: EvaluationReport) -> None:
    """Show how many of the kept questions are answered rightly, wrongly and not at all."""
    if num := sum(row.num for row in report.asked):
        of = f"of {several(num, 'kept question')}"
        sums = {name: sum(getattr(row, name) for row in report.asked) for name in tables.ANSWERED}
        told = [
            (name.capitalize(), f"{n:,}", of, tables.COLUMNS[name][2]) for name, n in sums.items()
        ]
        show_figures(told)


def show_report(report: EvaluationReport) -> None:
    """Show the main figures of an evaluation."""
    recall, taught = (tables.mean_recall(report, name) for name in ("paraphrase", "taught"))
    retention = None if report.metrics is None else report.metrics.retention
    asked = taught is not None
    gain, worst = tables.mean_gain(report), report.max_added_nats
    added = "–" if worst is None else f"{worst:+.4f}"
    gained = "–" if gain is None else f"{gain:+.3f}"
    share = "–" if retention is None else f"{retention:.2%}"
    right = "–" if recall is None else f"{recall:.0%}"
    bound, as_taught = (
        f"bound {report.bound_nats:.4f}",
        f"{taught:.0%} as taught" if asked else "none asked",
    )
    show_figures(
        [
            ("Mean gain", gained, "nats a token", "The base's loss less the loss now."),
            ("Retention", share, "of all gains", tables.MEANINGS["retention"][1]),
            ("Recall, paraphrased", right, as_taught, "Questions whose whole answer is right."),
            ("Worst added loss", added, bound, "The most that a scored document lost, nats."),
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
    tables.show(table, "Live domains with their losses and recall", hide=unmeasured)


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
