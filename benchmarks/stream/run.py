"""python -m benchmarks stream: do the pieces that are still missing, then write what they say."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from benchmarks.results import RESULTS, Figure, table
from benchmarks.stream.checks import check_made_of, check_precision, check_rates
from benchmarks.stream.drawing import draw
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.matrices import Scores
from benchmarks.stream.methods_table import methods_table
from benchmarks.stream.options import METHODS, parser, workshop
from benchmarks.stream.pieces import BASE, POOLS
from benchmarks.stream.plan import RATES, plan
from benchmarks.stream.report import figures
from benchmarks.stream.report import lines as lines_of
from benchmarks.stream.spread import SEEDS as SPREAD_SEEDS
from benchmarks.stream.workshop import Workshop
from pipelines.quiet import get_ready


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Do what is missing of the stream and return its figures.

    Args:
        arguments: `--quick`: two small domains and no raw files in the repository, to see that it
            works; `--full`: more seeds too, of ours and LoRA on the first domains; `--data FOLDER`
            with the public sets; `--method NAME` (may be repeated), `--seed N` (may be repeated),
            `--minutes N`: begin no piece after so long; `--jobs N`: so many processes side by side;
            `--work FOLDER` for what is large; `--untuned`: learn at the grids' middles where no
            rate was chosen yet; `--report`: do nothing, write what is there.
    """
    options = parser().parse_args(list(arguments))
    get_ready()
    shop = workshop(options)
    planned = functools.partial(
        plan,
        seeds=options.seed or [0],
        methods=options.method or ((POOLS, "lora") if options.quick else METHODS),
        with_tuning=not (options.quick or options.untuned),
        spread=SPREAD_SEEDS if options.full else (),
    )
    if not options.report:
        do_missing(shop, planned, options.minutes, options.jobs)
    return _told(shop, is_kept=not options.quick)


def _told(shop: Workshop, *, is_kept: bool) -> list[Figure]:
    """Return what the raw scores say; of a quick run print it, and keep nothing."""
    if not shop.raw.has(BASE):
        return []
    check_made_of(shop)
    check_precision(shop)
    check_rates(shop, list(RATES), of_all=False)
    scores, seeds = Scores(shop.raw, shop.names), shop.raw.seeds()
    found, lines = figures(scores, seeds), lines_of(scores, seeds)
    if is_kept and lines:
        draw(lines, shop.names)
        for name, is_short in (("stream-methods.md", False), ("stream-short.md", True)):
            page = methods_table(found, is_short=is_short)
            (RESULTS / name).write_text(page, encoding="utf-8")
        return found
    print(table(found) if found else "no method is whole yet")
    return []
