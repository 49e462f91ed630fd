"""Ingest: a corpus is looked at, learned in a process of its own, and followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard import MAX_UPLOAD_MB, charts, tables
from app.dashboard.processes import (
    Folder,
    Process,
    is_open,
    new_folder,
    processes,
    run_of,
    start_process,
)
from app.dashboard.state import View, link, message_box, page, plain, show_error, show_figures, view
from app.look import describe_progress
from app.output import SHOWN_LINES
from peer_cl.errors import PeerError
from pipelines.corpora import read_corpus
from pipelines.files.finding import COMPRESSED, SUFFIXES
from pipelines.words import several
from stores.queries import Run
from stores.records import check_domain_name

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from pipelines.preview import Preview

UPLOAD, PATH = "Upload a file", "A path on this machine"
OPTIONS = {"hold_out_percent": "--hold-out", "text_passes": "--passes", "seed": "--seed"}
"""Settings that the form offers, and the command line's options for them."""
NUM_RUNS = 50
_FOLDER, _PREVIEW = "ingest-folder", "ingest-preview"
"""Session keys: where uploads lie until a process takes them, and what was looked at."""


@dataclass(frozen=True)
class Request:
    """What the form asks for."""

    domain: str
    corpus: str
    facts: str | None
    settings: tuple[tuple[str, Any], ...]
    """Fields of TrainingSettings that are not as by default, with their values."""
    skips_bad_rows: bool
    message: str

    @property
    def words(self) -> list[str]:
        """The verb of the command line, with its options."""
        return [
            *("ingest", self.domain, self.corpus),
            *(("--facts", self.facts) if self.facts else ()),
            *(word for name, value in self.settings for word in (OPTIONS[name], str(value))),
            *("--on-bad-row", "skip" if self.skips_bad_rows else "stop"),
            *("--message", self.message),
        ]


@page("ingest", "upload_file", "Learn a corpus as a new version of a domain.")
def show(seen: View) -> None:
    """Show the page."""
    runs = seen.queries.runs(NUM_RUNS)
    if chosen := st.query_params.get("run"):
        _show_run(seen.queries.run(chosen), seen.colours)
        link("ingest", "All runs")
        return
    going = _is_going(runs)
    st.fragment(_follow, run_every=1.0 if going else None)(was_going=going)
    st.subheader("A new ingest", anchor=False)
    _ask(seen)
    st.subheader("Runs", anchor=False)
    tables.show(tables.runs_table(runs), "Ingests, evaluations and erasures, the newest first")


# Following what runs


def _is_going(runs: Sequence[Run]) -> bool:
    return any(map(is_open, runs)) or any(one.is_running for one in processes().values())


def _follow(*, was_going: bool) -> None:
    """Show what runs, and how what this dashboard started last has ended; runs every second."""
    seen = view()
    runs = seen.queries.runs(NUM_RUNS)
    if was_going and not _is_going(runs):
        st.rerun()  # the whole page: the store has changed
    for run in filter(is_open, reversed(runs)):
        with st.container(border=True):
            _show_run(run, seen.colours)
    for process in [*processes().values()][-1:]:
        _show_process(process, run_of(process, runs))


def _show_process(process: Process, run: Run | None) -> None:
    """Show a process that has no run yet, or how it ended."""
    if process.is_running:
        if run is None:
            st.info("Starting: loading the base.", icon=":material/hourglass_top:")
    elif run is not None:
        if not is_open(run):
            _show_end(run)
    elif process.popen.returncode:
        show_error(process.last_line or "The process ended without a word.")


def _show_run(run: Run, colours: dict[str, str]) -> None:
    """Show a run: what it does, how far it is, its losses."""
    st.markdown(f"**{plain(tables.run_name(run))}**")
    st.caption(plain(f"Started {tables.minute(run.started_at)} UTC by {run.author} {run.message}"))
    if is_open(run):
        share = min(1.0, run.done / run.total) if run.total else 0.0
        st.progress(share, text=plain(f"{describe_progress(run)} · {run.note}".removesuffix(" · ")))
        process = processes().get(run.pid)
        if process is not None and process.is_running:
            goes_on = "The same ingest, started again, goes on from its last checkpoint."
            st.button(
                "Cancel",
                on_click=process.cancel,
                icon=":material/stop_circle:",
                key=f"cancel {run.id}",
                help=goes_on if run.kind == "ingest" else None,
            )
    else:
        _show_end(run)
    if len(run.losses) > 1:
        losses = [(step, nats, None) for step, nats in run.losses]
        colour = colours.get(run.domain or "", charts.BLUE)
        table = tables.losses_table(losses, "this run")
        st.altair_chart(charts.training_chart(table, colour), alt="Weighted loss by step")


def _show_end(run: Run) -> None:
    what = f"The {tables.run_name(run)}"
    if run.state == "done":
        made = f", snapshot {run.snapshot_id}" if run.snapshot_id else ""
        st.success(plain(f"{what} is done{made}."), icon=":material/check_circle:")
        if run.kind == "evaluate":
            link("retention", "See what it found")
        elif run.domain:
            link("domains", "See the domain", domain=run.domain)
    elif run.state == "failed":
        show_error(f"{what} failed: {run.error}")
    elif run.state == "cancelled":
        st.info(plain(f"{what} was cancelled."), icon=":material/stop_circle:")
    else:
        st.warning(plain(f"{what} ended without a word."), icon=":material/warning:")


# Asking for an ingest


def _ask(seen: View) -> None:
    request = _form(seen)
    if request is None:
        st.caption("Give a corpus and the name of the domain that learns it.")
        return
    try:
        check_domain_name(request.domain)
        looked_at, found = st.session_state.get(_PREVIEW, (None, None))
        if st.button("Look at it first", icon=":material/visibility:"):
            with st.spinner("Reading the corpus"):
                looked_at, found = request, _preview(seen, request)
            st.session_state[_PREVIEW] = (request, found)
        if looked_at == request:
            _show_preview(seen, request, *found)
    except PeerError as error:
        show_error(str(error))


def _form(seen: View) -> Request | None:
    """Show the form; return what it asks for, None while something is missing."""
    left, right = st.columns(2, gap="large")
    with left:
        place = st.segmented_control(
            "Corpus", [UPLOAD, PATH], default=UPLOAD, required=True, key="ingest-place"
        )
        corpus = _source("a file, folder or glob, or hf:NAME", place, (*SUFFIXES, *COMPRESSED))
        with st.expander("Facts to learn too (optional)"):
            st.caption("jsonl, each line with subject, relation, answer and statement.")
            facts = _source("jsonl", place, [".jsonl"])
    with right:
        names = [state.domain for state in seen.live.domains]
        wanted = st.query_params.get("domain")
        domain = st.selectbox(
            "Domain",
            names,
            index=names.index(wanted) if wanted in names else None,
            accept_new_options=True,
            placeholder="Choose one, or type a new name",
            key="ingest-domain",
            help="A domain that exists grows by a version of its own, which can be rolled back.",
        )
        message = message_box("ingest")
        with st.expander("Settings"):
            given = {
                "hold_out_percent": st.number_input(
                    "Held out, percent", 0.0, 90.0, value=None, placeholder="23"
                ),
                "text_passes": st.number_input(
                    "Passes over each text", 0.5, 100.0, value=None, placeholder="1.5"
                ),
                "seed": st.number_input("Seed", 0, 2**31 - 1, value=None, placeholder="0"),
            }
            skips = st.checkbox("Leave out rows that cannot be read")
    if corpus is None or not domain:
        return None
    settings = tuple((name, value) for name, value in given.items() if value is not None)
    return Request(str(domain).strip(), corpus, facts, settings, skips, message())


def _source(what: str, place: str, suffixes: Sequence[str]) -> str | None:
    """Ask for a path, or for a file; return where it lies."""
    if place == PATH:
        typed = st.text_input(f"Path ({what})", key=f"path {what}").strip()
        return str(Path(typed).expanduser()) if typed else None
    label = f"A file (up to {MAX_UPLOAD_MB} MB)"  # the formats stand below it
    uploaded = st.file_uploader(label, type=[*suffixes], key=f"upload {what}")
    return str(_saved(uploaded)) if uploaded else None


def _saved(uploaded: UploadedFile) -> Path:
    """Return the file that an upload is kept in until the process that reads it ends."""
    folder: Folder = st.session_state.setdefault(_FOLDER, new_folder())
    path = Path(folder.name, uploaded.file_id, Path(uploaded.name).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(uploaded.getvalue())
    return path


def _preview(seen: View, request: Request) -> tuple[Preview, list[str]]:
    """Return what an ingest would find, and what to say about the reading."""
    from pipelines.facts import read_facts
    from pipelines.preview import preview  # loads torch
    from pipelines.settings import TrainingSettings

    corpus = read_corpus(request.corpus, "skip")
    facts, bad_facts = read_facts(request.facts, "skip") if request.facts else ((), ())
    settings = TrainingSettings(**dict(request.settings))
    found = preview(seen.store.registry, request.domain, corpus, facts, settings)
    unread = (*corpus.skipped, *bad_facts, *corpus.other_files)
    return found, [*corpus.notes, *map(str, unread)]


def _show_preview(seen: View, request: Request, found: Preview, notes: list[str]) -> None:
    show_figures(
        [
            ("Documents", f"{found.num_documents:,}", None, None),
            ("New", f"{found.num_new:,}", None, None),
            ("New facts", f"{found.num_facts:,}", None, None),
            ("Known or twice", f"{found.num_copies:,}", None, None),
            ("Tokens", f"{found.num_tokens:,}", None, None),
            ("Takes about", tables.duration(found.seconds), None, None),
        ]
    )
    if found.num_erased:
        st.caption(f"{several(found.num_erased, 'document')} erased from the domain: left out.")
    if found.num_replaced:
        st.caption(f"{several(found.num_replaced, 'document')} of changed files: replaced.")
    if notes:
        st.caption("What was guessed of its tables, and what is not read:")
        more = [f"{len(notes) - SHOWN_LINES:,} more"] * (len(notes) > SHOWN_LINES)
        st.code("\n".join([*notes[:SHOWN_LINES], *more]), language=None)
    is_possible = bool(found.num_new or found.num_facts or found.num_replaced)
    if not is_possible:
        st.info("There is nothing new in it to learn.", icon=":material/info:")
    if st.button(
        "Start learning", type="primary", icon=":material/play_arrow:", disabled=not is_possible
    ):
        start_process(seen, request.words, st.session_state.pop(_FOLDER, None))
        st.session_state.pop(_PREVIEW)
        st.rerun()
