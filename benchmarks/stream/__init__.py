"""The stream benchmark: methods learn the same eight domains in turn, and are asked after each.

`python -m benchmarks stream` measures what is missing, then writes the table. A method's scores of
a domain are a piece, kept in docs/results/raw/ (see `benchmarks.stream.raw`); a piece that is there
is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import RESULTS, Figure
from benchmarks.stream.raw import RAW, RawFolder
from benchmarks.stream.report import COMMITTED_ONLY, METHODS, OURS, figures, methods_table
from pipelines.packages import cache_folder
from pipelines.settings import TrainingSettings


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Measure what is missing of the stream and return the figures of all that is there.

    Args:
        arguments: `--report`: measure nothing; `--method NAME` (may be repeated; default: ours);
            `--seed N`; `--work FOLDER` for models and stores; `--raw FOLDER` for scores.
    """
    runnable = [method for method in METHODS if method not in COMMITTED_ONLY]
    parser = argparse.ArgumentParser(prog="python -m benchmarks stream")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--method", action="append", choices=runnable)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=cache_folder() / "stream")
    parser.add_argument("--raw", type=Path, default=RAW)
    options = parser.parse_args(list(arguments))
    raw = RawFolder(options.raw)
    if not options.report:
        from benchmarks.stream.run import Stream, show

        settings = TrainingSettings(seed=options.seed)
        stream = Stream(raw, options.work, settings=settings, progress=show)
        for method in options.method or [OURS]:
            stream.run(method)
    found = figures(raw, options.seed)
    (RESULTS / "stream-methods.md").write_text(methods_table(found), encoding="utf-8")
    return found
