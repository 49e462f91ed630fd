"""How far seeds lie apart: ours and LoRA learn the first domains of the stream more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.results import Figure
from benchmarks.stream.matrices import FORCED, Scores, mean, share
from benchmarks.stream.pieces import POOLS, Place, places
from benchmarks.stream.seeds import Measured, over_seeds
from benchmarks.stream.words import WORDS

METHODS = (POOLS, "lora")
NUM_DOMAINS = 3
SEEDS = (1, 2)
"""Beside the stream's own."""


def spread_places(method: str, seed: int, names: tuple[str, ...]) -> list[Place]:
    """Return the pieces of a seed that learns the first domains alone.

    Args:
        method: one of METHODS.
        seed: of the run.
        names: the stream's domains, in order.
    """
    return places(method, seed, names)[:NUM_DOMAINS]


def spread_figures(scores: Scores, seeds: Sequence[int]) -> list[Figure]:
    """Return what the first domains gave, with the range over seeds; none where one seed is there.

    Of ours with the right pool forced on.
    """
    found: list[Figure] = []
    for method in METHODS:
        measured = [list(_measured(scores, method, seed)) for seed in seeds]
        known = [one for one in measured if one]
        if len(known) > 1:
            found += over_seeds(known)
    return found


def _measured(scores: Scores, method: str, seed: int) -> Iterator[Measured]:
    own = spread_places(method, seed, scores.names)
    if not all(scores.raw.has(place.piece) for place in own):
        return
    learned = [(scores.raw.read(place.piece), place.domain) for place in own]
    words = WORDS[f"{method} {FORCED}" if method == POOLS else method]
    where = f"{words}: right after learning, first {len(own)} domains"
    losses = [scores.loss(raw, name) for raw, name in learned]
    yield Measured(f"{where}, unseen loss (nats a token)", mean(losses))
    for wording in ("seen", "reworded"):
        recalls = [share(raw["recall"][name][wording]) for raw, name in learned]
        yield Measured(f"{where}, recall, {wording} (share)", mean(recalls))
