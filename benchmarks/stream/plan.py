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
    read_named_ability,
)
from benchmarks.stream.mixing import mix
from benchmarks.stream.pieces import (
    APART,
    BASE,
    CHAINS,
    JOINT,
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

WITH_CONTEXT = tuple(task for task in FILES if task != "WikiText")
"""Tasks whose items have a context, which may name a domain."""

RATES: dict[str, tuple[float, ...]] = {
    POOLS: (3e-3, 6e-3, 1.2e-2),
    "lora": (3e-4, 1e-3, 3e-3),
    "osf": (3e-5, 1e-4, 3e-4),
    "full": (3e-5, 1e-4, 3e-4),
    "sparse": (3e-3, 6e-3, 1.2e-2),
    **dict.fromkeys(("lora-replay", *APART), (1e-3,)),
    JOINT: (3e-4,),
    "rag": (0.0,),
}
"""Learning rates by method: three are chosen among on validation documents of two domains, one is
taken. LoRA's kin take the rate that it was given. Joint training has eight times as many ranks,
whose sum moves the weights three times as far at the same rate: see decision 0013. RAG learns
nothing by gradients."""
IN_A_ROW = ("lora", "osf", "full", "sparse")
"""Methods whose rate is chosen after both domains, learned one after the other: how they learn the
first domain tells little of how they learn another (OSF protects more, sparse memory trains less),
and nothing of what a rate forgets."""


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
        tuned = [method for method in methods if len(RATES[method]) > 1]
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

    Where nothing was tuned (a quick run), the grid's middle.
    """
    grid, tried = RATES[method], _tried(shop, method)
    if not all(shop.raw.has(name) for names in tried for name in names):
        return grid[len(grid) // 2]
    losses = [sum(shop.raw.read(name)["loss_nats"] for name in names) for names in tried]
    return grid[losses.index(min(losses))]


def is_chosen(shop: Workshop, method: str) -> bool:
    """Return whether a method's rate is chosen, or there is only one."""
    tried = _tried(shop, method)
    return len(tried) == 1 or all(shop.raw.has(name) for names in tried for name in names)


def _tried(shop: Workshop, method: str) -> list[list[str]]:
    """Return by rate of a method's grid the names of the pieces that tell what it is worth."""
    return [
        [_tuning(method, rate, domains) for domains in _tuned_on(shop, method)]
        for rate in RATES[method]
    ]


def _tunings(shop: Workshop, method: str) -> list[Piece]:
    def piece(rate: float, domains: Sequence[str]) -> Piece:
        how = tune_pool if method == POOLS else tune
        return Piece(_tuning(method, rate, domains), lambda shop: how(shop, method, rate, domains))

    return [piece(rate, domains) for rate in RATES[method] for domains in _tuned_on(shop, method)]


def _tuned_on(shop: Workshop, method: str) -> list[tuple[str, ...]]:
    """Return what each piece of a rate's choice learns, one domain after the other."""
    first = shop.names[:2]
    return [first] if method in IN_A_ROW else [(name,) for name in first]


def mixture_piece(method: str, seed: int) -> str:
    """Return the name of the piece that puts a method's branches behind the mixture."""
    return f"{method}/s{seed}/mixture"


def _tuning(method: str, rate: float, domains: Sequence[str]) -> str:
    return f"tune/{method}/{rate:g}/{'+'.join(domains)}"


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

    def named(task: str) -> Piece:
        name = f"ability/{POOLS}/s{seed}/{task}-named"
        return Piece(name, lambda shop: _named_ability(shop, seed, task))

    is_read = method in (BASE, POOLS) or method in CHAINS
    pieces = [piece(task) for task in FILES] if is_read else []
    return pieces + [named(task) for task in WITH_CONTEXT if method == POOLS]


def _mixture_ability(shop: Workshop, seed: int, task: str) -> Raw:
    with _pools(shop, seed) as (branches, shortlist):
        return read_mixture_ability(shop, branches, shortlist, task)


def _named_ability(shop: Workshop, seed: int, task: str) -> Raw:
    with _pools(shop, seed) as (branches, shortlist):
        return read_named_ability(shop, branches, shortlist, task)


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
