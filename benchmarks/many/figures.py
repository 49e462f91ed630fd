"""What the raw scores of many small domains say."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.results import Figure, at_least, at_most, reported
from benchmarks.stream.matrices import kept, mean, share
from benchmarks.stream.prose import prose_figures
from benchmarks.stream.raw import Raw
from benchmarks.stream.seeds import over_seeds
from peer_cl.mixture import named_bound_nats, worst_added_nats
from peer_cl.mixture import share as mass_of

COMMAND = "python -m benchmarks many --data FOLDER"


def figures(grown: Raw, asked: Raw, prose: Raw, learned: list[Raw], tokens: int) -> list[Figure]:
    """Return every figure.

    Args:
        grown: of `growing.grow`.
        asked: of `growing.question`.
        prose: of `growing.read_at_length`, of every length.
        learned: the raw scores of each domain's piece.
        tokens: of a document of one length.
    """
    return [
        *_learned(grown, learned, tokens),
        *_sizes(grown),
        *_growth(grown),
        *_questions(asked, grown["budget"]),
        *over_seeds([prose_figures(prose, list(_largest(grown)["own"]))], COMMAND),
    ]


def _largest(grown: Raw) -> Raw:
    """Return what is told of the store with all its pools."""
    found: Raw = list(grown["sizes"].values())[-1]
    return found


def _learned(grown: Raw, learned: list[Raw], tokens: int) -> Iterator[Figure]:
    last = _largest(grown)["own"]
    num = sum(len(one["base"]) for one in last.values()) * tokens
    for key in ("base", "forced", "mixture"):
        loss = sum(sum(one[key]) for one in last.values()) / num
        said = {"base": "base alone", "forced": "own pool forced on", "mixture": "all pools asked"}
        yield reported(f"unseen loss, {said[key]} (nats a token)", loss, COMMAND)
    yield reported("time to learn a domain (s)", mean([r["seconds"] for r in learned]), COMMAND)
    yield reported("capacity (pools)", grown["capacity"], COMMAND)
    price = -math.log(mass_of(grown["budget"], grown["capacity"]))
    gains = {
        name: (sum(one["base"]) - sum(one["forced"])) / len(one["base"])
        for name, one in last.items()
        if one["base"]
    }
    yield reported(
        "gain of a document's own pool, mean (nats)", mean(list(gains.values())), COMMAND
    )
    yield reported("evidence that outweighs a pool's share (nats)", price, COMMAND)
    most = mean([max(0.0, 1.0 - price / gain) if gain > 0.0 else 0.0 for gain in gains.values()])
    name = "kept, documents of 128 tokens, by the own pool alone with all evidence given"
    yield reported(f"{name}, mean (share)", most, COMMAND)


def _sizes(grown: Raw) -> Iterator[Figure]:
    bound = worst_added_nats(grown["budget"])
    for size, found in grown["sizes"].items():
        own, pools = found["own"], "pool" if size == "1" else "pools"
        shares = [
            kept(*(sum(one[k]) for k in ("base", "forced", "mixture")))
            for one in own.values()
            if one["base"]  # an article may have no unseen text of that length
        ]
        name = f"kept, documents of 128 tokens, {size} {pools}, mean (share)"
        yield at_least(name, mean(shares), 0.9, COMMAND)
        yield reported(
            f"own pool asked after 32 tokens, {size} {pools} (share)",
            share([one for found in own.values() for one in found["asked_own"]]),
            COMMAND,
        )
        others = mean([float(num) for one in found["others_asked"].values() for num in one])
        said = f"other domains' pools that a document asks after 32 tokens, {size} {pools}"
        yield reported(f"{said} (number)", others, COMMAND)
        worst = max(
            m - b
            for one in (*own.values(), *found["foreign"].values())
            for m, b in zip(one["mixture"], one["base"], strict=True)
        )
        name = f"worst added loss of a document, {size} {pools} (nats)"
        yield at_most(name, worst, bound, COMMAND)
        prose = [one for group, one in found["foreign"].items() if group.startswith("prose")]
        silent = [int(num == 0) for one in prose for num in one["num_asked"]]
        yield at_least(
            f"prose that asks no pool, {size} {pools} (share)", share(silent), 0.99, COMMAND
        )


def _growth(grown: Raw) -> Iterator[Figure]:
    """Yield how the pools that a document asks grow with the store, against log of its size.

    The same documents at every size: those of the domains that are there from the first on. Each
    pool decides for itself, so in the long run the count is a line with the share below as its
    slope; that it grows slower than log is said of these sizes alone.
    """
    sizes = {int(size): found for size, found in grown["sizes"].items()}
    last = max(sizes)
    for first in (size for size in (2, 8) if size < last):
        names = list(sizes[first]["own"])
        counts = [
            mean([float(num) for name in names for num in sizes[size]["own"][name]["num_asked"]])
            for size in (first, last)
        ]
        if counts[0]:
            yield at_most(
                f"pools asked by the same documents, {last} pools over {first} (ratio)",
                counts[1] / counts[0],
                math.log(last) / math.log(first),
                COMMAND,
            )
    others = [num for one in sizes[last]["others_asked"].values() for num in one]
    if last > 1:
        share_asked = mean([num / (last - 1) for num in others])
        yield reported("share of other domains' pools that a document asks", share_asked, COMMAND)


def _questions(asked: Raw, budget: float) -> Iterator[Figure]:
    for odds, told in asked["told"].items():
        how = f"names count with odds {odds}" if float(odds) else "names count for nothing"
        if not float(odds):
            for way, said in (("base", "base alone"), ("forced", "own pool forced on")):
                yield reported(
                    f"people's questions answered, {said} (share)", share(told[way]), COMMAND
                )
        yield reported(
            f"people's questions answered, all pools, {how} (share)",
            share(told["mixture"]),
            COMMAND,
        )
        heavy = [int(weight > 0.5) for weight in told["own_weight"]]
        yield reported(
            f"people's questions whose pool has weight above 0.5, {how} (share)",
            share(heavy),
            COMMAND,
        )
        if float(odds):
            bound = named_bound_nats(budget, float(odds))
            yield reported(f"bound where one domain is named, odds {odds} (nats)", bound, COMMAND)
