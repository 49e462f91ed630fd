"""python -m benchmarks stream: do the pieces that are still missing, then write what they say."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import RESULTS, Figure, table
from benchmarks.stream import corpora
from benchmarks.stream.checks import check_made_of, check_rates, check_work
from benchmarks.stream.drawing import draw
from benchmarks.stream.matrices import Scores
from benchmarks.stream.methods_table import methods_table
from benchmarks.stream.pieces import APART, BASE, JOINT, LOWER, POOLS
from benchmarks.stream.plan import Piece, plan
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import figures
from benchmarks.stream.report import lines as lines_of
from benchmarks.stream.spread import SEEDS as SPREAD_SEEDS
from benchmarks.stream.workshop import Workshop
from pipelines.packages import cache_folder
from pipelines.quiet import get_ready
from pipelines.settings import TrainingSettings

COMMAND = "python -m benchmarks stream"
METHODS = (POOLS, "lora", LOWER, *APART, "full", "rag", "lora-replay", JOINT, "sparse", "osf")
QUICK = ("minerals", "acronyms")
"""Domains of a quick run, of which little is read."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Do what is missing of the stream and return its figures.

    Args:
        arguments: `--quick`: two small domains and no raw files in the repository, to see that it
            works; `--full`: more seeds too, of ours and LoRA on the first domains; `--data FOLDER`
            with the public sets; `--method NAME` (may be repeated), `--seed N` (may be repeated),
            `--minutes N`: begin no piece after so long; `--work FOLDER` for what is large;
            `--untuned`: learn at the grids' middles where no rate was chosen yet; `--report`: do
            nothing, write what is there.
    """
    options = _parser().parse_args(list(arguments))
    get_ready()
    shop = _quick(options) if options.quick else _whole(options)
    methods = options.method or ((POOLS, "lora") if options.quick else METHODS)
    is_untuned = options.quick or options.untuned
    spread = SPREAD_SEEDS if options.full else ()
    pieces = plan(shop, options.seed or [0], methods, with_tuning=not is_untuned, spread=spread)
    if not options.report:
        do_missing(shop, pieces, options.minutes)
    return _told(shop, is_kept=not options.quick)


def _told(shop: Workshop, *, is_kept: bool) -> list[Figure]:
    """Return what the raw scores say; of a quick run print it, and keep nothing."""
    if not shop.raw.has(BASE):
        return []
    check_made_of(shop)
    scores, seeds = Scores(shop.raw, shop.names), shop.raw.seeds()
    found, lines = figures(scores, seeds), lines_of(scores, seeds)
    if is_kept and lines:
        draw(lines, shop.names)
        table_path = RESULTS / "stream-methods.md"
        table_path.write_text(methods_table(found), encoding="utf-8")
        return found
    print(table(found) if found else "no method is whole yet")
    return []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true")
    length.add_argument("--full", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--untuned", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--work", type=Path, default=cache_folder() / "stream")
    return parser


def do_missing(shop: Workshop, pieces: Sequence[Piece], minutes: float) -> None:
    """Do the pieces that have no raw file yet, in order; each is kept as soon as it is done."""
    began = time.monotonic()
    check_rates(shop)
    check_made_of(shop)
    check_work(shop, pieces)
    missing = [piece for piece in pieces if not shop.raw.has(piece.name)]
    print(f"{len(pieces) - len(missing)} of {len(pieces)} pieces are done", flush=True)
    for piece in missing:
        spent = (time.monotonic() - began) / 60
        if spent > minutes:
            print(f"{spent:.0f} minutes are over; the next call goes on", flush=True)
            return
        if not piece.tunes:  # the choice may have fallen since the run began
            check_rates(shop)
        started = time.monotonic()
        shop.raw.write(piece.name, piece.do(shop) | {"made_of": shop.made_of(piece.name)})
        print(f"{piece.name}: {time.monotonic() - started:.0f} s", flush=True)


def _whole(options: argparse.Namespace) -> Workshop:
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
        most_facts=12,
        most_documents=40,
        most_foreign=5,
    )
