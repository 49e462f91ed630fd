"""How far seeds lie apart: ours and LoRA learn the first domains of the stream more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.results import Figure, at_least
from benchmarks.stream.matrices import FORCED, Scores, mean, share
from benchmarks.stream.pieces import CHAINS, POOLS, Place, places
from benchmarks.stream.seeds import COMMAND, Measured, over_seeds
from benchmarks.stream.words import WORDS

METHODS = (POOLS, "lora")
NUM_DOMAINS = 3
FURTHER = "components"
"""With every seed, too: two runs of LoRA with one seed lie furthest apart there, and ours between
them. What learns in a row learns all that comes before it."""
SEEDS = (1, 2)
"""Beside the stream's own."""


def spread_places(method: str, seed: int, names: tuple[str, ...]) -> list[Place]:
    """Return the pieces of a seed that learns the first domains, and a further one.

    Args:
        method: one of METHODS.
        seed: of the run.
        names: the stream's domains, in order.
    """
    own = places(method, seed, names)
    end = names.index(FURTHER) + 1 if FURTHER in names else 0
    between = [place for place in own[NUM_DOMAINS:end] if method in CHAINS or place == own[end - 1]]
    return own[:NUM_DOMAINS] + between


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
    return found + list(_gains(scores, seeds))


def _gains(scores: Scores, seeds: Sequence[int]) -> Iterator[Figure]:
    """Yield what share of LoRA's gain ours has in a domain, both the mean of several seeds."""
    for number, name in enumerate(scores.names):
        learned = [[Place(method, seed, number, name) for seed in seeds] for method in METHODS]
        losses = [_after(scores, own) for own in learned]
        if min(map(len, losses)) < 2:
            continue
        base, (own, theirs) = scores.loss(scores.base, name), map(mean, losses)
        rival, num = WORDS["lora"], f"{len(losses[0])} and {len(losses[1])}"
        yield at_least(
            f"gain of ours forced on, as a share of that of {rival}, {name}, means of {num} seeds "
            "(share)",
            (base - own) / (base - theirs),
            0.98,
            COMMAND,
        )


def _after(scores: Scores, learned: Sequence[Place]) -> list[float]:
    """Return the losses on a domain right after it was learned, of the pieces that are there."""
    pieces = [place for place in learned if scores.raw.has(place.piece)]
    return [scores.loss(scores.raw.read(place.piece), place.domain) for place in pieces]


def _measured(scores: Scores, method: str, seed: int) -> Iterator[Measured]:
    own = places(method, seed, scores.names)[:NUM_DOMAINS]
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
