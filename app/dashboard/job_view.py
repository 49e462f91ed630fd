"""A job as it goes on: how far it is, its loss, how long still, and the way to stop it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.dashboard.charts.ingest import loss_chart, told_loss
from app.dashboard.colours import BASE_COLOUR, domain_colours
from app.dashboard.frames.ingest import duration, losses_frame, minutes, said, share_done, speed
from app.dashboard.frames.learning import WEIGHTED
from app.dashboard.measuring import offer_measuring
from app.dashboard.page import View, offered_folders, opened, plain, who
from peer_cl.errors import PeerError, StateError
from pipelines.jobs import find_sources, start_again
from pipelines.store import open_store
from stores import Job

EVERY_SECONDS = 1.0


def heading(job: Job) -> str:
    """Return what a job is about, as people say it."""
    if job.kind == "evaluate":
        return "Measuring what is known"
    if job.kind == "erase":
        return f"Erasing from {job.domain}"
    return f"Learning {job.domain}"


def watch(seen: View, job: Job) -> None:
    """Show a job, anew every second while it goes on."""
    # A domain that is still to come has the colour that it will have.
    colours = domain_colours(list(dict.fromkeys([*seen.colours, job.domain or ""])))
    colour = colours[job.domain] if job.domain else BASE_COLOUR
    st.subheader(plain(heading(job)), anchor=False)
    every = EVERY_SECONDS if job.is_open else None
    st.fragment(_live, run_every=every)(seen.folder, job.id, colour, was_open=job.is_open)


def _live(folder: str, job_id: str, colour: str, *, was_open: bool) -> None:
    """Show a job as it is now. Runs by itself, so errors are told here."""
    try:
        job = opened(Path(folder)).registry.jobs.find(job_id)
        if was_open and not job.is_open:
            st.rerun()  # the whole page: the domain may be new, and there is nothing to wait for
        _show(folder, job, colour)
    except PeerError as error:
        st.error(plain(str(error)), icon=":material/error:")


def _show(folder: str, job: Job, colour: str) -> None:
    st.caption(plain(_about(job)))
    if job.state == "running":
        _show_progress(job)
    elif job.state == "waiting":
        why = f": {job.note}" if job.note else ""
        st.info(plain(f"Waiting for its turn{why}."), icon=":material/hourglass_empty:")
    else:
        _show_end(job)
        if _can_be_measured(folder, job):
            st.caption("What it did is not measured yet.")
            offer_measuring(folder, f"job-{job.id}")
    if job.losses:
        losses = losses_frame(job)
        st.altair_chart(loss_chart(losses, colour), alt=told_loss(losses))
    if job.is_open:
        _offer_cancel(folder, job)
    elif job.state != "done" and job.request:
        _offer_again(folder, job)


def _about(job: Job) -> str:
    at = (job.started_at or job.created_at)[:19].replace("T", " ")
    because = f": {job.why}" if job.why else ""
    return f"Job {job.id[:12]}, asked for by {job.who}{because}. Since {at} UTC."


def _show_progress(job: Job) -> None:
    st.progress(share_done(job), text=plain(said(job)))
    if job.is_cancel_asked:
        st.info("It was asked to stop, and does at its next step.", icon=":material/stop_circle:")
    loss, pace, left = st.columns(3)
    latest = f"{job.losses[-1][1]:.3f}" if job.losses else "–"
    loss.metric("Weighted loss", latest, help=WEIGHTED)
    pace.metric("Speed", speed(job))
    seconds = job.seconds_left
    left.metric("Left of this part", "–" if seconds is None else duration(seconds))


def _show_end(job: Job) -> None:
    took = minutes(job.started_at, job.ended_at)
    after = "" if took is None else f" It took {duration(60 * took)}."
    if job.state == "done":
        results = [job.note, f"snapshot {job.snapshot_id}" if job.snapshot_id else ""]
        told = ", ".join(result for result in results if result)
        st.success(plain(f"Done: {told}.{after}"), icon=":material/check_circle:")
        if job.kind != "evaluate" and job.request:
            st.link_button("See the domain", f"domains?domain={job.domain}")
    elif job.state == "failed":
        st.error(plain(f"It failed: {job.error}{_kept(job)}"), icon=":material/error:")
    elif job.state == "lost":
        told = "Its process is gone: it was killed, or the machine was restarted."
        told += _kept(job) or " The store is as it was before, and all of it can be used."
        st.warning(plain(told), icon=":material/warning:")
    else:
        told = f"It was cancelled; {job.note or 'what it was about was purged'}.{after}{_kept(job)}"
        st.info(plain(told), icon=":material/stop_circle:")


def _can_be_measured(folder: str, job: Job) -> bool:
    """Return whether a change of the store ended well, and nothing was measured since."""
    if job.kind == "evaluate" or job.state != "done" or not job.request:
        return False
    registry = opened(Path(folder)).registry
    state, learned = registry.live().state(job.domain or ""), job.snapshot_id or 0
    return state is not None and not any(
        item.snapshot_id >= learned for item in registry.evaluated()
    )


def _kept(job: Job) -> str:
    """Return what is in the store of a job that was not evaluated to its end."""
    if not job.is_unmeasured:
        return ""
    is_erased = job.kind == "erase"
    done = f"It was erased from {job.domain}" if is_erased else f"{job.domain} has learned it"
    return f" {done}, in snapshot {job.snapshot_id}; it was not measured."


def _offer_cancel(folder: str, job: Job) -> None:
    told = "The same again goes on from the last checkpoint (every 50 steps), else from the start."
    if st.button(
        "Cancel",
        key=f"cancel-{job.id}",
        icon=":material/stop_circle:",
        disabled=job.is_cancel_asked,
        help=None if job.kind == "evaluate" else told,
    ):
        with open_store(folder, who=who()) as store:
            store.registry.jobs.ask_cancel(job.id)
        st.rerun()


def _offer_again(folder: str, job: Job) -> None:
    """Let a person have the work done after all: what is in the store is measured alone."""
    if not job.is_unmeasured:
        try:
            find_sources(opened(Path(folder)).registry, job)
        except StateError as error:
            st.caption(plain(f"It cannot be started again: {error}."))
            return
    label = "Measure it now" if job.is_unmeasured else "Start it again"
    if st.button(label, key=f"again-{job.id}", icon=":material/replay:"):
        with open_store(folder, who=who()) as store:
            new = start_again(store, job.id, within=offered_folders())
        st.query_params["job"] = new.id
        st.rerun()
