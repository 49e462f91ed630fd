"""Having the store measured from a page, and commands that are whole: they name this store."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard.clicks import click, wanted
from app.dashboard.links import link
from app.dashboard.page import opened, plain, who
from peer_cl.errors import PeerError
from pipelines.jobs import start_evaluation
from pipelines.store import open_store

if TYPE_CHECKING:
    from stores import Job

MEASURE = "Measure now"
"""What the button says, on every page."""


def offer_measuring(folder: str, place: str) -> None:
    """Let a person have the live snapshot measured, or show the job that does it already.

    A refusal is told in a line.

    Args:
        folder: of the store.
        place: where the button stands; no two on a page have the same.
    """
    if wanted(_name(place)):
        try:
            with open_store(folder, who=who()) as store:
                start_evaluation(store)
        except PeerError as error:
            st.error(plain(str(error)), icon=":material/error:")
    jobs = opened(Path(folder)).registry.jobs.listed(only_open=True)
    at_work = next((job for job in jobs if _measures(job)), None)
    if at_work is not None:
        st.info("A job measures it; look again when it is done.", icon=":material/straighten:")
        link("ingest", "Watch the job", job=at_work.id)
        return
    st.button(
        MEASURE,
        key=f"button-{_name(place)}",
        icon=":material/straighten:",
        help="Scores every live domain's held-out documents, facts and foreign text, in a process "
        "of its own: it goes on when you close this page.",
        **click(_name(place)),
    )


def show_command(folder: str, *words: str) -> None:
    """Show a command to copy, with this store's path: another default may hold elsewhere.

    Args:
        folder: of the store.
        words: what follows "peer-cl", such as "evaluate".
    """
    st.code(shlex.join(["peer-cl", *words, "--store", folder]), language="bash")


def _name(place: str) -> str:
    return f"measure-{place}"


def _measures(job: Job) -> bool:
    """Return whether an open job measures the store, by itself or after an ingest."""
    return job.kind == "evaluate" or bool(job.request.get("evaluate"))
