"""What `python -m benchmarks stream` can be told, and the stream that this means."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results import RESULTS
from benchmarks.stream import corpora
from benchmarks.stream.pieces import APART, JOINT, POOLS
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.workshop import Workshop
from pipelines.packages import cache_folder
from pipelines.settings import TrainingSettings

COMMAND = "python -m benchmarks stream"
METHODS = (POOLS, "lora", *APART, "full", "rag", "lora-replay", JOINT, "sparse", "osf")
QUICK = ("minerals", "acronyms")
"""Domains of a quick run, of which little is read."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(prog=COMMAND)
    length = made.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true")
    length.add_argument("--full", action="store_true")
    made.add_argument("--report", action="store_true")
    made.add_argument("--untuned", action="store_true")
    made.add_argument("--data", type=Path)
    made.add_argument("--method", action="append", choices=METHODS)
    made.add_argument("--seed", action="append", type=int)
    add_running(made, "stream")
    return made


def add_running(made: argparse.ArgumentParser, name: str) -> None:
    """Let a command be told how its pieces are done: `--minutes`, `--jobs`, `--work`.

    Args:
        made: the command's parser.
        name: of the folder in the user's cache.
    """
    made.add_argument("--minutes", type=float, default=float("inf"))
    made.add_argument("--jobs", type=at_least_one, default=1)
    made.add_argument("--work", type=Path, default=cache_folder() / name)


def at_least_one(text: str) -> int:
    """Return a number of processes.

    Raises: ArgumentTypeError: when it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, 1 or more")
    return number


def workshop(options: argparse.Namespace) -> Workshop:
    """Return the stream that the options name; corpora that cannot be had are told and left out."""
    if options.quick:
        return _quick(options)
    missing = corpora.missing()
    for name, reason in missing.items():
        print(f"without {name}: {reason}; this run speaks for no README figure", flush=True)
    names = tuple(name for name in corpora.NAMES if name not in missing)
    raw = RawFolder(RESULTS / "stream")
    return Workshop(raw=raw, work=options.work, names=names, data=options.data)


def _quick(options: argparse.Namespace) -> Workshop:
    missing = corpora.missing(QUICK)
    return Workshop(
        raw=RawFolder(options.work / "quick-raw"),
        work=options.work / "quick",
        names=tuple(name for name in QUICK if name not in missing),
        data=options.data,
        settings=TrainingSettings(text_passes=1.0, fact_passes=4.0),
        most_facts=8,
        most_documents=28,
        most_foreign=5,
        most_items=8,
    )
