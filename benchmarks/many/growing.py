"""What the mixture makes of articles and of foreign text while the store grows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.many.checks import check_work
from benchmarks.stream import pools
from benchmarks.stream.mixing import CONTEXT, NAME_ODDS, Book
from benchmarks.stream.pieces import POOLS, Place, learned_pool, store_name, subject
from benchmarks.stream.prose import read_prose
from benchmarks.stream.raw import DIGITS, Raw, sums
from benchmarks.stream.workshop import BUDGET, Workshop, score
from pipelines.asking import ask
from pipelines.general import ReaderScorer

SIZES = (1, 2, 4, 8, 16, 32, 48)
"""Pools in the store."""
MOST_ASKED = 30
"""Questions of an article that all pools together are asked, a paragraph in turn."""


def sizes(num_domains: int) -> list[int]:
    """Return the numbers of pools that are looked at, the last of them all that there are.

    Example:
        >>> sizes(10)
        [1, 2, 4, 8, 10]
    """
    return [*(size for size in SIZES if size < num_domains), num_domains]


def learn(shop: Workshop, place: Place) -> Raw:
    """Ingest an article into the store, and keep what its pool says of the texts that are mixed."""
    texts = shop.groups("blocks128", "prose", "look-alike")
    names = (store_name(place.seed),)
    with learned_pool(shop, names, place.domain, shop.settings) as (branches, seconds):
        reader = functools.partial(branches.branch, place.domain)
        scores = score(ReaderScorer(reader), texts, shop.progress)
    shop.tokens.write(subject(place.method, place.seed, place.domain), texts, scores)
    nats = {group: sums(found) for group, found in scores.items()}
    return {"domain": place.domain, "seconds": round(seconds, 1), "nats": nats}


def grow(shop: Workshop, seed: int) -> Raw:
    """Return losses and who is asked, for each size of the store.

    Who a text asks, and what each pool says of it, never depends on other domains: so a store of
    eight pools is the first eight of one that holds all.

    Raises: StateError: as `check_work`.
    """
    check_work(shop, seed, reads_tokens=True)
    book, names = Book(shop, POOLS, seed), list(shop.names)
    with shop.stores(store_name(seed)) as stores:
        _, shortlist = pools.load(stores, names)
        own = {name: shop.texts[f"blocks128/{name}"] for name in names}
        foreign = shop.groups("prose", "look-alike")
        heads = {
            name: shortlist.asked(rows, [CONTEXT + 1] * len(rows)) for name, rows in own.items()
        }
        whole = {group: shortlist.asked(rows) for group, rows in foreign.items()}
    stacks = {name: book.stack(names, rows) for name, rows in own.items()}
    strange = {group: book.stack(names, rows) for group, rows in foreign.items()}
    found = {}
    for size in sizes(len(names)):
        shop.progress("mixing", size, len(names), "pools")
        learned = names[:size]
        found[str(size)] = {
            "own": {
                name: {
                    "base": sums([one[0, 0] for one in stacks[name]]),
                    "forced": sums([one[place + 1, 0] for one in stacks[name]]),
                    "mixture": sums([book.mixed(one[: size + 1]) for one in stacks[name]]),
                    "num_asked": _num_asked(heads[name], learned, len(own[name])),
                    "asked_own": [int(is_asked) for is_asked in heads[name][name]],
                }
                for place, name in enumerate(learned)
            },
            "others_asked": {
                name: _num_asked(heads[name], [one for one in learned if one != name], len(rows))
                for name, rows in own.items()
            },
            "foreign": {
                group: {
                    "base": sums([one[0, 0] for one in stacked]),
                    "mixture": sums([book.mixed(one[: size + 1]) for one in stacked]),
                    "num_asked": _num_asked(whole[group], learned, len(stacked)),
                }
                for group, stacked in strange.items()
            },
        }
    return {"sizes": found, "capacity": shop.capacity, "budget": BUDGET}


def question(shop: Workshop, seed: int) -> Raw:
    """Return what all pools together answer to people's questions, by how much names count.

    Raises: StateError: as `check_work`.
    """
    check_work(shop, seed, reads_tokens=False)
    asked = [one for name in shop.names for one in shop.prepared[name].questions[:MOST_ASKED]]
    found: Raw = {}
    with shop.stores(store_name(seed)) as stores:
        branches, shortlist = pools.load(stores, shop.names)
        for odds in (0.0, *NAME_ODDS):
            shop.progress("asking", len(found), 1 + len(NAME_ODDS), "")
            told = ask(branches, replace(shortlist, name_odds=odds), asked, BUDGET)
            found[str(odds)] = {
                "base": [int(one.base) for one in told],
                "forced": [int(one.forced) for one in told],
                "mixture": [int(one.mixture) for one in told],
                "own_weight": [
                    round(one.weights.get(q.domain, 0.0), DIGITS)
                    for one, q in zip(told, asked, strict=True)
                ],
                "num_asked": [len(one.weights) for one in told],
            }
    return {"domains": [one.domain for one in asked], "told": found}


def read_at_length(shop: Workshop, seed: int, length: int) -> Raw:
    """Return who is asked by prose of a length, and what it loses with every pool asked.

    Raises:
        InputError: when no folder of public sets was named.
        StateError: as `check_work`.
    """
    check_work(shop, seed, reads_tokens=False)
    with shop.stores(store_name(seed)) as stores:
        return read_prose(shop, seed, *pools.load(stores, shop.names), length)


def _num_asked(asked: dict[str, list[bool]], learned: Sequence[str], num: int) -> list[int]:
    return [sum(asked[name][row] for name in learned) for row in range(num)]
