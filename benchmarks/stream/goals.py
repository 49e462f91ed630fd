"""Our figures against their goals, a seed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.stream.intervals import interval
from benchmarks.stream.matrices import FORCED, GUIDED, Scores, kept, mean, share
from benchmarks.stream.pieces import APART, CHAINS, POOLS
from benchmarks.stream.prose import piece_name, prose_figures
from benchmarks.stream.raw import Raw
from benchmarks.stream.seeds import Measured
from benchmarks.stream.words import WORDS
from peer_cl.mixture import named_bound_nats, worst_added_nats


def ours(scores: Scores, seed: int) -> Iterator[Measured]:
    """Yield our figures of a seed; none where its pieces are not all there."""
    learned, mixture = scores.learned(POOLS, seed), scores.mixture(POOLS, seed)
    if learned is None or mixture is None:
        return
    yield from _learned(scores, seed)
    yield from _kept(mixture, scores.names)
    yield from _lacking(mixture, scores.names)
    yield from _asking(mixture, scores.names)
    for odds, found in mixture.get("named", {}).items():
        bound = named_bound_nats(mixture["budget"], float(odds))
        yield Measured(f"bound where one domain is named, odds {odds} (nats)", bound)
        yield from _asking(found, scores.names, f", names count with odds {odds}")
    yield from _alone(scores, learned)
    for rival in APART:
        yield from _rival(scores, rival, seed)
    yield from _foreign(mixture)
    if scores.raw.has(piece_name(seed)):
        yield from prose_figures(scores.raw.read(piece_name(seed)), scores.names)


def _learned(scores: Scores, seed: int) -> Iterator[Measured]:
    own = scores.losses(POOLS, seed, FORCED)
    if own is None:
        return
    for rival in ("lora", *APART):
        way = "" if rival in CHAINS else FORCED
        theirs = scores.losses(rival, seed, way)
        if theirs is None:
            continue
        words = WORDS[f"{rival} {way}".strip()]
        after = [theirs[j + 1][j] for j in range(len(scores.names))]
        name = f"unseen loss after learning, ours forced on, against {words} (nats a token)"
        yield Measured(name, mean(own[-1]), at_most=mean(after))
        yield from _interval(scores, rival, words, seed)
        gains = {
            domain: (b - o) / (b - t)
            for domain, b, o, t in zip(scores.names, own[0], own[-1], after, strict=True)
            if b > t  # a rival that learned nothing there is no measure
        }
        if gains:
            name = f"gain of ours forced on, as a share of that of {words}, worst domain (share)"
            yield Measured(name, min(gains.values()), at_least=0.98)


def _interval(scores: Scores, rival: str, words: str, seed: int) -> Iterator[Measured]:
    """Yield between which values the difference lies, were other documents or domains drawn."""
    own, theirs = scores.learned(POOLS, seed), scores.learned(rival, seed)
    if own is None or theirs is None:
        return
    differences = [
        (
            np.subtract(ours["nats"][f"test/{name}"], other["nats"][f"test/{name}"]),
            np.array(scores.base["tokens"][f"test/{name}"]),
        )
        for name, ours, other in zip(scores.names, own, theirs, strict=True)
    ]
    low, high = interval(differences)
    said = f"ours forced on less {words}, unseen loss after learning"
    yield Measured(f"{said}, low end of 95 %, other documents (nats a token)", low)
    yield Measured(f"{said}, high end of 95 %, other documents (nats a token)", high)
    by_domain = [differences_D.sum() / tokens.sum() for differences_D, tokens in differences]
    if len(by_domain) > 1:
        error = float(np.std(by_domain, ddof=1) / len(by_domain) ** 0.5)
        yield Measured(f"{said}, standard error over domains (nats a token)", error)
    num = sum(bool(one < 0.0) for one in by_domain)
    yield Measured(f"{said}, domains in which ours is below", num)


def _kept(mixture: Raw, names: Sequence[str]) -> Iterator[Measured]:
    for what, goal in (("whole", 0.94), ("context", 0.96)):
        shares = {}
        for name in names:
            found = mixture["blocks"][name]
            found = found["context"] if what == "context" else found
            base, forced, mixed = (sum(found[key]) for key in ("base", "forced", "mixture"))
            shares[name] = kept(base, forced, mixed)
        said = "documents of 128 tokens" if what == "whole" else "the same after 32 tokens, listed"
        yield Measured(f"kept, {said}, mean (share)", mean(list(shares.values())), at_least=goal)
        for name, value in shares.items():
            yield Measured(f"kept, {said}, {name} (share)", value, at_least=goal)


def _lacking(mixture: Raw, names: Sequence[str]) -> Iterator[Measured]:
    """Yield why the mixture keeps less than all of a pool's gain: it waits, or others speak."""
    delays, others, misses = [], [], []
    for name in names:
        found = mixture["blocks"][name]
        base, forced, alone, every = (
            sum(found[key]) for key in ("base", "forced", "own_only", "mixture")
        )
        kept_alone = kept(base, forced, alone)
        delays.append(1.0 - kept_alone)
        others.append(kept_alone - kept(base, forced, every))
        misses.append(1.0 - share(found["context"]["asked_own"]))
    said = "documents of 128 tokens, mean (share)"
    yield Measured(f"not kept because evidence comes late, {said}", mean(delays))
    yield Measured(f"not kept because other pools speak, {said}", mean(others))
    yield Measured(f"own pool not asked after 32 tokens, {said}", mean(misses))


def _asking(mixture: Raw, names: Sequence[str], how: str = "") -> Iterator[Measured]:
    yield from _questions(mixture, names, how)
    general = mixture["general"]
    heavy = [int(weight > 0.5) for weight in general["largest_weight"]]
    yield Measured(
        f"general questions where any pool has weight above 0.5{how} (share)",
        share(heavy),
        at_most=0.01,
    )
    rare = [one for one, is_rare in zip(heavy, general["has_rare_word"], strict=True) if is_rare]
    name = f"the same, questions with a domain's rare word{how} (share)"
    yield Measured(name, share(rare))
    naming = [weight for one in mixture["naming"].values() for weight in one]
    name = (
        f"sentences that name a subject and ask nothing, any pool's weight above 0.5{how} (share)"
    )
    yield Measured(name, share([int(weight > 0.5) for weight in naming]))


def _questions(mixture: Raw, names: Sequence[str], how: str) -> Iterator[Measured]:
    asked = [mixture["recall"][name][w] for name in names for w in ("seen", "reworded")]
    weights = [weight for one in asked for weight in one["own_weight"]]
    yield Measured(
        f"questions about a domain whose pool has weight above 0.5{how} (share)",
        share([int(weight > 0.5) for weight in weights]),
        at_least=0.95,
    )
    for wording, goal in (("seen", 0.95), ("reworded", 0.85)):
        rows = [mixture["recall"][name][wording] for name in names]
        value = mean([share(row["mixture"]) for row in rows])
        name = f"recall through the mixture, {wording}{how} (share)"
        yield Measured(name, value, at_least=goal)
        if GUIDED in rows[0]:
            guided = mean([share(row[GUIDED]) for row in rows])
            name = f"recall through the mixture, guided, {wording}{how} (share)"
            yield Measured(name, guided, at_least=goal)
        if "names count" not in how:  # a pool that is forced on says the same, whoever is named
            forced = mean([share(row["forced"]) for row in rows])
            yield Measured(f"recall, pool forced on, {wording}{how} (share)", forced)


def _alone(scores: Scores, learned: Sequence[Raw]) -> Iterator[Measured]:
    """Yield what a pool that is always on does to prose."""
    added = {raw["domain"]: scores.added(raw["nats"], "prose") for raw in learned}
    name = "loss added to prose by a pool, always on, mean over domains (nats a token)"
    yield Measured(name, mean(list(added.values())), at_most=0.0)
    for domain, value in added.items():
        name = f"loss added to prose by {domain}'s pool, always on (nats a token)"
        yield Measured(name, value, at_most=0.0)


def _rival(scores: Scores, rival: str, seed: int) -> Iterator[Measured]:
    """Yield what else ours is compared with one adapter a domain by; a rival has no goals."""
    learned, mixture = scores.learned(rival, seed), scores.mixture(rival, seed)
    words = WORDS[rival].removesuffix(", our mixture")
    if learned is not None:
        yield from _rival_alone(scores, learned, words)
    if mixture is not None:
        told = [
            _means(_kept(mixture, scores.names)),
            _lacking(mixture, scores.names),
            _asking(mixture, scores.names),
        ]
        for odds, found in mixture.get("named", {}).items():
            told.append(_asking(found, scores.names, f", names count with odds {odds}"))
        for one in (one for some in told for one in some):
            name = f"{words}, our mixture: {one.name}"
            yield replace(one, name=name, at_least=None, at_most=None)


def _means(found: Iterator[Measured]) -> Iterator[Measured]:
    return (one for one in found if one.name.endswith(", mean (share)"))


def _rival_alone(scores: Scores, learned: Sequence[Raw], words: str) -> Iterator[Measured]:
    added = {raw["domain"]: scores.added(raw["nats"], "prose") for raw in learned}
    said = f"loss added to prose by {words}, always on"
    yield Measured(f"{said}, mean over domains (nats a token)", mean(list(added.values())))
    for domain, value in added.items():
        yield Measured(f"{said}, {domain} (nats a token)", value)


def _foreign(mixture: Raw) -> Iterator[Measured]:
    bound = worst_added_nats(mixture["budget"])
    for group, found in mixture["foreign"].items():
        worst = max(m - b for m, b in zip(found["mixture"], found["base"], strict=True))
        name = f"worst added loss of a document, {group} (nats)"
        yield Measured(name, worst, at_most=bound, is_worst=True)
        goal = 0.99 if group.startswith("prose") else 0.90
        silent = share([int(num == 0) for num in found["num_asked"]])
        yield Measured(f"ask no pool, {group} (share)", silent, at_least=goal)
