"""Which pieces a whole run has, in which order, and at which learning rates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.stream import pools
from benchmarks.stream.ability_pieces import (
    read_base_ability,
    read_chain_ability,
    read_mixture_ability,
)
from benchmarks.stream.mixing import mix
from benchmarks.stream.pieces import (
    APART,
    BASE,
    CHAINS,
    JOINT,
    LOWER,
    POOLS,
    Place,
    adapters,
    learn_adapter,
    learn_in_chain,
    learn_jointly,
    learn_pool,
    places,
    pool_stores,
    read_base,
    tune,
    tune_pool,
)
from benchmarks.stream.prose import piece_name, read_prose
from benchmarks.stream.raw import Raw
from benchmarks.stream.retrieval import RAG, read_replies, read_right_passages, replies_piece
from benchmarks.stream.retrieval import piece_name as right_passage_piece
from benchmarks.stream.spread import METHODS as SPREAD
from benchmarks.stream.spread import spread_places
from benchmarks.stream.workshop import Workshop
from pipelines.branches import PoolBranches, Shortlist
from pipelines.general_tasks import FILES

RATES: dict[str, tuple[float, ...]] = {
    POOLS: (3e-3, 6e-3, 1.2e-2),
    "lora": (3e-4, 1e-3, 3e-3),
    "osf": (3e-5, 1e-4, 3e-4),
    "full": (3e-5, 1e-4, 3e-4),
    "sparse": (3e-3, 6e-3, 1.2e-2),
    "rag": (0.0,),
}
"""Three learning rates a method, chosen among on validation documents of two domains; RAG learns
nothing by gradients."""
TUNED_AS = dict.fromkeys((LOWER, "lora-replay", JOINT, *APART), "lora")
"""Methods that take another's rate: the same adapter on the same rows."""
AT_LOWER = (LOWER, "lora-replay", JOINT, *APART)
"""Of them, those that take the rate below it in the grid. Each tuning starts at the bare model, and
what it prefers need not last through the steps of eight domains; and one LoRA a domain learns more
of unseen text at the lower rate: see decision 0013."""


@dataclass(frozen=True)
class Piece:
    """A part of the run that ends with a file of raw scores."""

    name: str
    do: Callable[[Workshop], Raw]

    @property
    def tunes(self) -> bool:
        """Whether it serves the choice of a rate."""
        return self.name.startswith("tune/")

    @property
    def asks_base(self) -> bool:
        """Whether it reads with the bare model alone."""
        return self.name == BASE or self.name.startswith(f"ability/{BASE}/")

    @property
    def learns(self) -> bool:
        """Whether a method learns a domain in it."""
        return re.fullmatch(r"[^/]+/s\d+/\d+-.+", self.name) is not None


def plan(
    shop: Workshop,
    seeds: Sequence[int],
    methods: Sequence[str],
    *,
    with_tuning: bool = True,
    spread: Sequence[int] = (),
) -> list[Piece]:
    """Return the pieces of a run in order.

    Args:
        shop: the stream.
        seeds: of the methods that learn.
        methods: which of them: "peer", those of CHAINS and APART, "joint".
        with_tuning: choose learning rates first; else the grids' middles are taken.
        spread: more seeds, with which SPREAD learn the first domains alone.
    """
    pieces = [Piece(BASE, read_base)]
    if with_tuning:
        borrowed = dict.fromkeys(TUNED_AS.get(method, method) for method in methods)
        tuned = [method for method in borrowed if len(RATES[method]) > 1]
        pieces += [piece for method in tuned for piece in _tunings(shop, method)]
    for seed in seeds:
        for method in methods:
            pieces += _learning(shop, method, seed)
    for seed in (seed for seed in spread if seed not in seeds):
        for method in (method for method in methods if method in SPREAD):
            pieces += [learning_piece(place) for place in spread_places(method, seed, shop.names)]
    if shop.data is not None:
        if POOLS in methods:
            pieces.append(Piece(piece_name(seeds[0]), lambda shop: _prose(shop, seeds[0])))
        pieces += [piece for method in ("base", *methods) for piece in _abilities(method, seeds[0])]
    return pieces


def rate_of(shop: Workshop, method: str) -> float:
    """Return the learning rate with the least mean loss on the two domains' validation documents.

    Where nothing was tuned (a quick run), the grid's middle. AT_LOWER take the one below it.
    """
    tuned = TUNED_AS.get(method, method)
    best = _best(shop, tuned)
    return RATES[tuned][max(0, best - 1) if method in AT_LOWER else best]


def _best(shop: Workshop, method: str) -> int:
    """Return the place in its grid of the rate that two domains prefer; untuned: the middle."""
    losses = []
    for rate in RATES[method]:
        names = [_tuning(method, rate, domain) for domain in shop.names[:2]]
        if not all(shop.raw.has(name) for name in names):
            return len(RATES[method]) // 2
        losses.append(sum(shop.raw.read(name)["loss_nats"] for name in names))
    return losses.index(min(losses))


def _tunings(shop: Workshop, method: str) -> list[Piece]:
    def piece(rate: float, domain: str) -> Piece:
        how = tune_pool if method == POOLS else tune
        return Piece(_tuning(method, rate, domain), lambda shop: how(shop, method, rate, domain))

    return [piece(rate, domain) for rate in RATES[method] for domain in shop.names[:2]]


def mixture_piece(method: str, seed: int) -> str:
    """Return the name of the piece that puts a method's branches behind the mixture."""
    return f"{method}/s{seed}/mixture"


def _tuning(method: str, rate: float, domain: str) -> str:
    return f"tune/{method}/{rate:g}/{domain}"


def _learning(shop: Workshop, method: str, seed: int) -> list[Piece]:
    if method == JOINT:
        place = Place(JOINT, seed, 0, "all")
        return [
            Piece(
                place.piece,
                lambda shop: learn_jointly(shop.with_seed(seed), seed, rate_of(shop, JOINT)),
            )
        ]
    pieces = [learning_piece(place) for place in places(method, seed, shop.names)]
    if method == RAG:
        pieces.append(Piece(right_passage_piece(seed), read_right_passages))
        pieces.append(Piece(replies_piece(seed), read_replies))
    if method not in CHAINS:
        pieces.append(Piece(mixture_piece(method, seed), lambda shop: _mix(shop, method, seed)))
    return pieces


def _abilities(method: str, seed: int) -> list[Piece]:
    """Return the pieces of general ability: the base's, chains' ends, and ours."""

    def piece(task: str) -> Piece:
        if method == BASE:
            return Piece(f"ability/base/{task}", lambda shop: read_base_ability(shop, task))
        name = f"ability/{method}/s{seed}/{task}"
        if method == POOLS:
            return Piece(name, lambda shop: _mixture_ability(shop, seed, task))
        return Piece(name, lambda shop: read_chain_ability(shop, method, seed, task))

    is_read = method in (BASE, POOLS) or method in CHAINS
    return [piece(task) for task in FILES] if is_read else []


def _mixture_ability(shop: Workshop, seed: int, task: str) -> Raw:
    with _pools(shop, seed) as (branches, shortlist):
        return read_mixture_ability(shop, branches, shortlist, task)


def _prose(shop: Workshop, seed: int) -> Raw:
    with _pools(shop, seed) as (branches, shortlist):
        return read_prose(shop, seed, branches, shortlist)


@contextmanager
def _pools(shop: Workshop, seed: int) -> Iterator[tuple[PoolBranches, Shortlist]]:
    """Load all domains' pools of a seed, from the stores that hold them."""
    with shop.stores(*pool_stores(seed, rate_of(shop, POOLS))) as stores:
        yield pools.load(stores, shop.names)


def learning_piece(place: Place) -> Piece:
    """Return the piece in which a method learns one domain, at the rate that was chosen."""

    def do(shop: Workshop) -> Raw:
        rate, seeded = rate_of(shop, place.method), shop.with_seed(place.seed)
        if place.method == POOLS:
            return learn_pool(seeded, place, rate)
        how = learn_in_chain if place.method in CHAINS else learn_adapter
        return how(seeded, place, rate)

    return Piece(place.piece, do)


def _mix(shop: Workshop, method: str, seed: int) -> Raw:
    """Put a method's branches behind the mixture; signatures, and so who is asked, are alike."""
    seeded = shop.with_seed(seed)
    if method == POOLS:
        with _pools(shop, seed) as (branches, shortlist):
            return mix(seeded, method, seed, branches, shortlist)
    with shop.store(f"signatures-s{seed}") as store:
        for name in shop.names:
            pools.sign(store, shop.domain(name), seeded.settings, shop.progress)
        _, shortlist = pools.load([store], shop.names)
        return mix(seeded, method, seed, adapters(seeded, method, seed), shortlist)
