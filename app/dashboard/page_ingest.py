"""Ingest: a corpus is looked at, learned in a process of its own, and followed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard import MAX_UPLOAD_MB, charts, tables
from app.dashboard.columns import show_table
from app.dashboard.processes import Folder, Process, new_folder, processes, run_of, start_process
from app.dashboard.state import View, link, message_box, page, plain, show_error, view
from app.look import describe_progress
from peer_cl.errors import PeerError
from pipelines.corpora import several
from stores.queries import Run
from stores.records import check_domain_name

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from app.dashboard.preview import Preview

UPLOAD, PATH = "Upload a file", "A path on this machine"
OPTIONS = {"hold_out_percent": "--hold-out", "text_passes": "--passes", "seed": "--seed"}
"""Settings that the form offers, and the command line's options for them."""
NUM_RUNS = 50
MOST_PROBLEMS = 5
_FOLDER, _PREVIEW = "ingest-folder", "ingest-preview"
"""Session keys: where uploads lie until a process takes them, and what was looked at."""


@dataclass(frozen=True)
class Request:
    """What the form asks for."""

    domain: str
    corpus: Path
    facts: Path | None
    settings: tuple[tuple[str, Any], ...]
    """Fields of TrainingSettings that are not as by default, with their values."""
    skips_bad_rows: bool
    message: str

    @property
    def words(self) -> list[str]:
        """The verb of the command line, with its options."""
        return [
            *("ingest", self.domain, str(self.corpus)),
            *(("--facts", str(self.facts)) if self.facts else ()),
            *(word for name, value in self.settings for word in (OPTIONS[name], str(value))),
            *("--on-bad-row", "skip" if self.skips_bad_rows else "stop"),
            *("--message", self.message),
        ]


@page("ingest", "Ingest", ":material/upload_file:", "Learn a corpus as a new version of a domain.")
def show(seen: View) -> None:
    """Show the page."""
    runs = seen.queries.runs(NUM_RUNS)
    chosen = st.query_params.get("run")
    if chosen:
        run = seen.queries.run(chosen)
        _show_run(run, seen.colours)
        link("ingest", "All runs", icon=":material/arrow_back:")
        return
    is_open = any(map(_is_open, runs)) or any(one.is_running for one in processes().values())
    st.fragment(_follow, run_every=1.0 if is_open else None)(is_open=is_open)
    st.subheader("A new ingest", anchor=False)
    _ask(seen)
    st.subheader("Runs", anchor=False)
    if runs:
        show_table(tables.runs_table(runs), "Ingests, evaluations and erasures, the newest first")
    else:
        st.caption("None yet.")


# Following what runs


def _is_open(run: Run) -> bool:
    return run.state == "running" and not run.is_lost


def _follow(*, is_open: bool) -> None:
    """Show what runs, and how what this dashboard started last has ended; runs every second."""
    seen = view()
    runs = seen.queries.runs(NUM_RUNS)
    own = list(processes().values())
    is_open_now = any(map(_is_open, runs)) or any(one.is_running for one in own)
    if is_open and not is_open_now:
        st.rerun()  # the whole page: the store has changed
    for run in reversed(runs):
        if _is_open(run):
            with st.container(border=True):
                _show_run(run, seen.colours)
    for process in own[-1:]:
        _show_process(seen, process, run_of(process, runs))


def _show_process(seen: View, process: Process, run: Run | None) -> None:
    """Show a process that has no run yet, or how it ended."""
    if process.is_running:
        if run is None:
            st.info("Starting: loading the base.", icon=":material/hourglass_top:")
        return
    if run is None:
        if process.popen.returncode:
            show_error(process.last_line or "The process ended without a word.")
    elif not _is_open(run):
        _show_end(run)


def _show_run(run: Run, colours: dict[str, str]) -> None:
    """Show a run: what it does, how far it is, its losses."""
    name = tables.run_name(run)
    st.markdown(f"**{plain(name[0].upper() + name[1:])}**")
    because = f": {run.message}" if run.message else ""
    st.caption(plain(f"Started {tables.minute(run.started_at)} UTC by {run.author}{because}"))
    if _is_open(run):
        share = min(1.0, run.done / run.total) if run.total else 0.0
        st.progress(share, text=plain(f"{describe_progress(run)} · {run.note}".removesuffix(" · ")))
        process = processes().get(run.pid)
        if process is not None and process.is_running:
            st.button(
                "Cancel",
                on_click=process.cancel,
                icon=":material/stop_circle:",
                key=f"cancel {run.id}",
                help="The same ingest, started again, goes on from its last checkpoint.",
            )
    else:
        _show_end(run)
    if len(run.losses) > 1:
        losses = [(step, nats, None) for step, nats in run.losses]
        st.altair_chart(
            charts.training_chart(
                tables.losses_table(losses, "this run"), colours.get(run.domain or "", charts.BLUE)
            ),
            alt="Weighted loss by step",
        )


def _show_end(run: Run) -> None:
    what = f"The {tables.run_name(run)}"
    if run.state == "done":
        made = f", snapshot {run.snapshot_id}" if run.snapshot_id else ""
        st.success(plain(f"{what} is done{made}."), icon=":material/check_circle:")
        if run.kind == "evaluate":
            link("retention", "See what it found", icon=":material/timeline:")
        elif run.domain:
            link("domains", "See the domain", icon=":material/stacks:", domain=run.domain)
    elif run.state == "failed":
        show_error(f"{what} failed: {run.error}")
    elif run.state == "cancelled":
        st.info(plain(f"{what} was cancelled."), icon=":material/stop_circle:")
    else:
        told = "ended without a word: its process is gone. The store is as it was before."
        st.warning(plain(f"{what} {told}"), icon=":material/warning:")


# Asking for an ingest


def _ask(seen: View) -> None:
    request = _form(seen)
    if request is None:
        st.caption("Give a corpus and the name of the domain that learns it.")
        return
    try:
        check_domain_name(request.domain)
        looked_at, found = st.session_state.get(_PREVIEW, (None, None))
        is_looked_at = looked_at == request
        if st.button(
            "Look at it first",
            icon=":material/visibility:",
            type="secondary" if is_looked_at else "primary",
        ):
            with st.spinner("Reading the corpus"):
                found = _preview(seen, request)
            st.session_state[_PREVIEW] = (request, found)
            st.rerun()
        if is_looked_at:
            _show_preview(seen, request, found)
    except PeerError as error:
        show_error(str(error))


def _form(seen: View) -> Request | None:
    """Show the form; return what it asks for, None while something is missing."""
    left, right = st.columns(2, gap="large")
    with left:
        place = st.segmented_control(
            "Corpus", [UPLOAD, PATH], default=UPLOAD, required=True, key="ingest-place"
        )
        corpus = _source("txt, md or jsonl, or a folder of them", place, ["txt", "md", "jsonl"])
        with st.expander("Facts to learn too (optional)"):
            st.caption("jsonl, each line with subject, relation, answer and statement.")
            facts = _source("jsonl", place, ["jsonl"])
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
            skips = st.checkbox("Leave out lines that cannot be read")
    if corpus is None or not domain:
        return None
    settings = tuple((name, value) for name, value in given.items() if value is not None)
    return Request(str(domain).strip(), corpus, facts, settings, skips, message())


def _source(what: str, place: str, suffixes: list[str]) -> Path | None:
    """Ask for a path, or for a file; return where it lies."""
    if place == PATH:
        typed = st.text_input(f"Path ({what})", key=f"path {what}").strip()
        return Path(typed).expanduser() if typed else None
    uploaded = st.file_uploader(
        f"A file ({', '.join(suffixes)}, up to {MAX_UPLOAD_MB} MB)",
        type=suffixes,
        key=f"upload {what}",
    )
    return _saved(uploaded) if uploaded else None


def _saved(uploaded: UploadedFile) -> Path:
    """Return the file that an upload is kept in until the process that reads it ends."""
    folder: Folder = st.session_state.setdefault(_FOLDER, new_folder())
    path = Path(folder.name, uploaded.file_id, Path(uploaded.name).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(uploaded.getvalue())
    return path


def _preview(seen: View, request: Request) -> Preview:
    from app.dashboard.preview import preview  # loads torch, as reading the corpus does
    from pipelines.settings import TrainingSettings

    return preview(
        seen.store.registry,
        request.domain,
        request.corpus,
        request.facts,
        TrainingSettings(**dict(request.settings)),
    )


def _show_preview(seen: View, request: Request, found: Preview) -> None:
    figures = [
        ("Documents", f"{found.num_documents:,}"),
        ("New", f"{found.num_new:,}"),
        ("New facts", f"{found.num_facts:,}"),
        ("Known or twice", f"{found.num_copies:,}"),
        ("Near-duplicates", f"{found.num_near:,}"),
        ("Tokens", f"{found.num_tokens:,}"),
        ("Takes about", tables.duration(found.seconds)),
    ]
    with st.container(horizontal=True):
        for name, value in figures:
            st.metric(name, value, border=True, width="content")
    if found.num_erased:
        st.caption(f"{several(found.num_erased, 'document')} erased from the domain: left out.")
    if found.skipped:
        st.warning(f"{several(len(found.skipped), 'line or file')} cannot be read; the first:")
        st.code("\n".join(map(str, found.skipped[:MOST_PROBLEMS])), language=None)
    is_possible = bool(found.num_new or found.num_facts)
    if not is_possible:
        st.info("There is nothing new in it to learn.", icon=":material/info:")
    if st.button(
        "Start learning", type="primary", icon=":material/play_arrow:", disabled=not is_possible
    ):
        start_process(seen, request.words, st.session_state.pop(_FOLDER, None))
        st.session_state.pop(_PREVIEW)
        st.rerun()
