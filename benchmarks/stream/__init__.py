"""The stream benchmark: methods learn the same eight domains in turn, and are asked after each.

It measures what is missing in docs/results/raw/ (`benchmarks.stream.raw`), then writes the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from app.output import show_progress
from benchmarks.corpora import NAMES
from benchmarks.results import RESULTS, Figure
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import figures, methods_table, of_items
from peer_cl.errors import InputError
from pipelines.loading import SMOLLM2
from pipelines.packages import cache_folder
from pipelines.settings import TrainingSettings


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Measure what is missing of the stream and return the figures of all that is there.

    Options: `--report`: measure nothing; `--facts`: learn facts alone, which takes a quarter of an
    hour, and ask them; `--base NAME`: beside another base; `--domains N`: of the first domains
    alone, with one of these two; `--processes N`: learn in so many; `--seed N`; `--work FOLDER` for
    the store.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks stream")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--facts", action="store_true")
    parser.add_argument("--domains", type=int, default=len(NAMES))
    parser.add_argument("--base", default=SMOLLM2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=cache_folder() / "stream")
    options = parser.parse_args(list(arguments))
    is_ours_alone = options.base != SMOLLM2
    if not (options.facts or is_ours_alone) and options.domains != len(NAMES):
        raise InputError("--domains is for --facts or --base: other methods learned all eight")
    raw, settings = RawFolder(), TrainingSettings(seed=options.seed)
    if is_ours_alone and not options.facts:
        raw = RawFolder(options.work / f"raw-{options.base}-{options.domains}")
    if not options.report:
        from benchmarks.stream.run import Stream

        with show_progress() as progress:
            stream = Stream(
                raw,
                options.work,
                NAMES[: options.domains],
                base_id=options.base,
                settings=settings,
                processes=options.processes,
                progress=progress,
            )
            if options.facts:
                piece, seconds = stream.facts_alone()
                pace = Figure("ours: seconds to learn a hundred facts", seconds, most=180)
                return [*of_items(raw.base().about(stream.names), piece), pace]
            stream.run()
    found = figures(raw, options.seed)
    if is_ours_alone:
        return found
    (RESULTS / "stream-methods.md").write_text(methods_table(found), encoding="utf-8")
    return found
