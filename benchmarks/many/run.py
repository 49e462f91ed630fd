"""python -m benchmarks many: learn the articles that are missing, then write what they say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.many.articles import Articles
from benchmarks.many.checks import check_work
from benchmarks.many.figures import figures
from benchmarks.many.growing import grow, learn, question, read_at_length
from benchmarks.results import RESULTS, Figure, table
from benchmarks.stream.checks import check_made_of
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.options import add_running
from benchmarks.stream.pieces import BASE, POOLS, Place, places, read_base
from benchmarks.stream.plan import Piece
from benchmarks.stream.prose import LENGTHS, piece_name
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.texts import BLOCK
from benchmarks.stream.workshop import Workshop
from pipelines.quiet import get_ready
from pipelines.settings import TrainingSettings

CAPACITY = 64
SEED = 0
TEST_TOKENS = 300
"""Of each article's held-out paragraphs: every pool reads those of all articles."""
FOREIGN = 8
"""Documents of each foreign source."""
SETTINGS = TrainingSettings(text_passes=2.0)
"""An article is short, and there are no facts beside it."""
GROWN, ASKED = f"{POOLS}/s{SEED}/grown", f"{POOLS}/s{SEED}/asked"
PROSE = {length: f"{piece_name(SEED)}-{length}" for length in LENGTHS}
"""By length: a piece is to be done within minutes, and 48 pools read each document."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Learn what is missing and return the figures, once all is there.

    Args:
        arguments: `--data FOLDER` with the public sets; `--domains N` for the first N articles
            alone, of which nothing is kept in the repository; `--minutes N`: begin no piece after
            so long; `--jobs N`: so many processes side by side; `--work FOLDER` for what is large.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks many")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domains", type=int)
    add_running(parser, "many")
    options = parser.parse_args(list(arguments))
    get_ready()
    articles = Articles(options.data)
    names = articles.names()[: options.domains]
    is_kept = options.domains is None
    shop = Workshop(
        raw=RawFolder(RESULTS / "many" if is_kept else options.work / "raw"),
        work=options.work,
        names=names,
        load=articles.load,
        data=options.data,
        settings=SETTINGS,
        test_tokens=TEST_TOKENS,
        most_foreign=FOREIGN,
        capacity=CAPACITY,
    )
    check_kept(shop)
    do_missing(shop, pieces, options.minutes, options.jobs)
    found = told(shop)
    if is_kept:
        return found
    print(table(found) if found else "not all pieces are there yet")
    return []


def check_kept(shop: Workshop) -> None:
    """Refuse to go on where what is done does not fit this run, or its work folder is gone: before
    hours of learning, not after them.

    Raises: StateError: saying what to remove.
    """
    check_made_of(shop)
    if not all(map(shop.raw.has, (GROWN, ASKED, *PROSE.values()))):
        check_work(shop, SEED, reads_tokens=not shop.raw.has(GROWN))


def pieces(shop: Workshop) -> list[Piece]:
    """Return the pieces of a run in order."""
    return [
        Piece(BASE, read_base),
        *(_learning(place) for place in places(POOLS, SEED, shop.names)),
        Piece(GROWN, lambda shop: grow(shop, SEED)),
        Piece(ASKED, lambda shop: question(shop, SEED)),
        *(_reading(name, length) for length, name in PROSE.items()),
    ]


def _learning(place: Place) -> Piece:
    return Piece(place.piece, lambda shop: learn(shop, place))


def _reading(name: str, length: int) -> Piece:
    return Piece(name, lambda shop: read_at_length(shop, SEED, length))


def told(shop: Workshop) -> list[Figure]:
    """Return the figures; none while a piece is missing."""
    check_made_of(shop)
    if not all(shop.raw.has(piece.name) for piece in pieces(shop)):
        return []
    learned = [shop.raw.read(place.piece) for place in places(POOLS, SEED, shop.names)]
    grown, asked, *prose = map(shop.raw.read, (GROWN, ASKED, *PROSE.values()))
    lengths = {length: found for raw in prose for length, found in raw["lengths"].items()}
    return figures(grown, asked, {**prose[0], "lengths": lengths}, learned, BLOCK)
