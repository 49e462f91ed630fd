"""What a method's stream does to general ability: the same items before and after.

Tasks with verdicts are taken together: their items are many only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.stream.matrices import NAMED
from benchmarks.stream.pieces import POOLS
from benchmarks.stream.raw import Raw, RawFolder
from benchmarks.stream.seeds import Measured
from benchmarks.stream.words import WORDS
from benchmarks.stream.workshop import ABILITY_ITEMS
from pipelines.general import Change, ItemScore, changed, paired_interval
from pipelines.general_tasks import FILES


def abilities(raw: RawFolder, method: str, seed: int) -> Iterator[Measured]:
    """Yield a method's figures of general ability; none where a task was not read yet."""
    pieces = {task: f"ability/{method}/s{seed}/{task}" for task in FILES}
    bases = {task: f"ability/base/{task}" for task in FILES}
    if not all(map(raw.has, (*pieces.values(), *bases.values()))):
        return
    found = {task: _change(raw, bases[task], pieces[task], task) for task in FILES}
    for task, change in found.items():
        is_text = change.p_value is None
        what = "added loss (nats a token)" if is_text else "change of accuracy (share)"
        yield Measured(f"{WORDS[method]}: {task}, {what}", change.difference)
    if method != POOLS:
        yield from _together(f"{WORDS[method]}: general ability", list(found.values()))
    else:
        said = f"{WORDS[method]}: general ability, every item"
        for one in _together(said, list(found.values())):
            is_goal = one.name.endswith("high end of 95 % (share)")  # no loss that is one
            yield replace(one, at_least=0.0) if is_goal else one
        # Beside the others, who read so many, the same items.
        first = [_change(raw, bases[t], pieces[t], t, ABILITY_ITEMS) for t in FILES]
        yield from _together(f"{WORDS[method]}: general ability", first)
        num_asked = sum(raw.read(piece)["num_asked"] for piece in pieces.values())
        yield Measured(f"{WORDS[method]}: general ability, items that ask any pool", num_asked)
        yield from _named(raw, pieces, bases)


def _named(raw: RawFolder, pieces: dict[str, str], bases: dict[str, str]) -> Iterator[Measured]:
    """Yield the same where names count, which only items that name a domain can tell."""
    known = {task: f"{piece}-named" for task, piece in pieces.items()}
    if not any(map(raw.has, known.values())):
        return
    changes, num_naming, num_asked = [], 0, 0
    for task, piece in known.items():
        naming: Raw = raw.read(piece) if raw.has(piece) else {"items": [], "num_asked": 0}
        again = {one["key"]: ItemScore.from_dict(one) for one in naming["items"]}
        every = [ItemScore.from_dict(one) for one in raw.read(pieces[task])["items"]]
        after = [again.get(one.key, one) for one in every]
        before = [ItemScore.from_dict(one) for one in raw.read(bases[task])["items"]]
        changes.append(changed(before, after)[task])
        num_naming, num_asked = num_naming + len(again), num_asked + naming["num_asked"]
    said = f"{WORDS[f'{POOLS} {NAMED}']}: general ability, every item"
    yield from _together(said, changes)
    yield Measured(f"{said}, that names a domain", num_naming)
    yield Measured(f"{said}, that names a domain and asks any pool", num_asked)


def _change(raw: RawFolder, base: str, piece: str, task: str, most: int | None = None) -> Change:
    """Return a task's change on the items that the method read, which may be the first ones."""
    after = [ItemScore.from_dict(one) for one in raw.read(piece)["items"]][:most]
    read = {one.key for one in after}
    every = [ItemScore.from_dict(one) for one in raw.read(base)["items"]]
    return changed([one for one in every if one.key in read], after)[task]


def _together(said: str, changes: list[Change]) -> Iterator[Measured]:
    judged = [change for change in changes if change.p_value is not None]
    gains, losses, num = (
        sum(getattr(change, name) for change in judged) for name in ("gains", "losses", "num_items")
    )
    low, high = paired_interval(gains, losses, num)
    named = {
        "change of accuracy, all tasks (share)": (gains - losses) / num,
        "the same, low end of 95 % (share)": low,
        "the same, high end of 95 % (share)": high,
        "items with a verdict": num,
        "items whose verdict or choice changed": sum(change.num_changed for change in judged),
    }
    for name, value in named.items():
        yield Measured(f"{said}, {name}", value)
