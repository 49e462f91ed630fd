"""Verbs that run as processes of their own: started here, followed in the table of runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.dashboard.state import View, link
from stores.queries import Run

Folder = tempfile.TemporaryDirectory[str]


@dataclass
class Process:
    """A verb of the command line at work; it goes on when the page is closed."""

    popen: subprocess.Popen[bytes]
    folder: Folder
    """Holds the uploads that it reads and what it prints, until it has ended."""
    _last_line: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    @property
    def last_line(self) -> str:
        """The last line that it printed on stderr before it ended: what went wrong."""
        if self._last_line is None:
            printed = Path(self.folder.name, "stderr").read_text(errors="replace").strip()
            self._last_line = printed.rpartition("\n")[2]
            self.folder.cleanup()
        return self._last_line

    def cancel(self) -> None:
        """Have it stop at its next step, as Ctrl-C does."""
        self.popen.send_signal(signal.SIGINT)


@st.cache_resource(show_spinner=False)
def processes() -> dict[int, Process]:
    """Return the processes that this dashboard started, by their ids, oldest first."""
    return {}


def new_folder() -> Folder:
    """Return a folder for a process: its uploads and what it prints."""
    return tempfile.TemporaryDirectory(prefix="peer-cl-dashboard-")


def start_process(seen: View, words: Sequence[str], folder: Folder | None = None) -> Process:
    """Start a verb, with its options, on the store; `folder` may hold uploads for it."""
    folder = folder or new_folder()
    command = [sys.executable, "-m", "app", *words, "--store", str(seen.folder), "--json"]
    with Path(folder.name, "stderr").open("wb") as stderr:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C in the dashboard's terminal leaves it alone
        )
    processes()[popen.pid] = Process(popen, folder)
    return processes()[popen.pid]


def run_of(process: Process, runs: Sequence[Run]) -> Run | None:
    """Return the newest run of a process; None before it has written one."""
    return next((run for run in runs if run.pid == process.popen.pid), None)


def is_open(run: Run) -> bool:
    """Return whether a run still goes on."""
    return run.state == "running" and not run.is_lost


def offer_evaluation(seen: View) -> None:
    """Show a button that evaluates the live snapshot in a process, or that one is running."""
    if not any(run.kind == "evaluate" and is_open(run) for run in seen.queries.runs(20)):
        with st.container(horizontal=True, vertical_alignment="center"):
            is_wanted = st.button("Evaluate now", icon=":material/straighten:", key="evaluate")
            others = st.checkbox("Score background text too (minutes)", key="evaluate-others")
        if not is_wanted:
            return
        start_process(seen, ["evaluate", *(["--background"] if others else [])])
    st.info("An evaluation is running.", icon=":material/hourglass_top:")
    link("ingest", "Follow it")
