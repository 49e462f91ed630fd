"""An evaluation's rows on general ability: of the bare base, and of the store's live pools.

The base's figures of an item never change, so they are stored like every other score; what no pool
is asked for is then never read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from peer_cl.bases import Base, within_context
from peer_cl.errors import DamageError, InputError
from peer_cl.model import PeerModel
from pipelines.branches import PoolBranches, Shortlist
from pipelines.general import (
    Change,
    ItemScore,
    ReaderScorer,
    TaskResult,
    changed,
    judge,
    read_items,
    results,
)
from pipelines.general_mixture import CHUNK, read_mixture
from pipelines.general_tasks import GeneralItem, GeneralSet
from pipelines.mixture_scores import added_nats
from pipelines.progress import Progress
from pipelines.token_scores import BASE, MAX_TOKENS, VersionBranch
from stores import NewScore, Registry, Snapshot
from stores.patience import patiently

_VERSION = "general-1"
_WITHOUT_SPECIAL = "general-2"
"""Of texts with special tokens, which counted before."""


def choose_items(
    base: Base, sets: Sequence[GeneralSet], most: int
) -> tuple[list[GeneralItem], tuple[str, ...]]:
    """Return the items that are asked, and a line on each set of which some are left out.

    Those are items of which a choice or continuation is longer than what the base reads.

    Args:
        base: the store's.
        sets: what is asked.
        most: items of each.

    Raises:
        InputError: when that is no number of items, or none is left of all sets.
    """
    longest = within_context(base.model, MAX_TOKENS)
    chosen: list[GeneralItem] = []
    left_out = []
    for one in sets:
        items = one.items(base.tokenizer, most, longest)
        chosen += items
        num = min(most, len(one.contents))
        if len(items) < num:
            left_out.append(
                f"left out: {num - len(items):,} of {num:,} items of {one.task}, in which a choice "
                f"or continuation leaves no room for a context: {longest:,} tokens are read"
            )
    if sets and not chosen:
        raise InputError(f"no item of general ability can be asked; {'; '.join(left_out)}")
    return chosen, tuple(left_out)


def general_rows(
    registry: Registry,
    model: PeerModel,
    live: dict[str, VersionBranch],
    items: Sequence[GeneralItem],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return a row a task: its figures before and after, and what changed item by item.

    Args:
        registry: an open store.
        model: the store's model; its own pools are not used.
        live: by domain that is on, its version.
        items: what is asked.
        progress: told how far it is.
    """
    branches = PoolBranches(model, {name: one.segments for name, one in live.items()})
    signatures = {name: one.signature for name, one in live.items()}
    shortlist = Shortlist(model, signatures, model.name_odds)
    before = _base_scores(registry, ReaderScorer(branches.base), items, progress)
    read = read_mixture(branches, shortlist, items, before, progress)
    old, new = results(before), results(read.scores)
    changes, worst = changed(before, read.scores), _worst(before, read.scores)
    return [
        _row(task, kind, old[task], new[task], changes[task], read.num_asked[task], worst)
        for task, kind in {item.task: item.kind for item in items}.items()
    ]


def _row(
    task: str,
    kind: str,
    before: TaskResult,
    after: TaskResult,
    change: Change,
    num_asked: int,
    worst: dict[str, float],
) -> dict[str, Any]:
    return {
        "task": task,
        "kind": kind,
        "items": change.num_items,
        "base_accuracy": before.accuracy,
        "accuracy": after.accuracy,
        "changed_items": change.num_changed,
        "gained": change.gains,
        "lost": change.losses,
        "difference_interval": [change.low, change.high],
        "asked_items": num_asked,
        "base_loss_nats": before.loss_nats,
        "loss_nats": after.loss_nats,
        "max_added_nats": worst.get(task),
    }


def _worst(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> dict[str, float]:
    """Return, by task of texts, the most that a whole text's loss rose above the base's."""
    found: dict[str, float] = {}
    for old, new in zip(before, after, strict=True):
        if old.num_tokens is not None:
            added = added_nats(old.log_probs[0], new.log_probs[0])
            found[old.task] = max(found.get(old.task, added), added)
    return found


def _base_scores(
    registry: Registry, scorer: ReaderScorer, items: Sequence[GeneralItem], progress: Progress
) -> list[ItemScore]:
    """Return the base's scores, computing and storing only what is not stored."""
    keys = [_key(item) for item in items]
    known = registry.scores(BASE, keys)
    missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
    wanted = list(missing.items())
    for start in range(0, len(wanted), CHUNK):
        some = wanted[start : start + CHUNK]
        read = read_items(scorer, [item for _, item in some])
        new = {key: _bytes(figures) for (key, _), figures in zip(some, read, strict=True)}
        scores = [
            NewScore(subject=BASE, document_key=key, values=values, num_tokens=len(values) // 8)
            for key, values in new.items()
        ]
        what = "general ability, the bare base"
        patiently(partial(registry.put_scores, scores), partial(progress, what, start, len(wanted)))
        known |= new
        progress(what, start + len(some), len(wanted), some[-1][1].task)
    return [judge(item, _figures(item, known[key])) for key, item in zip(keys, items, strict=True)]


def _key(item: GeneralItem) -> str:
    """Return the name of an item's figures in the registry: its kind, tokens and context."""
    version = _WITHOUT_SPECIAL if item.uncounted else _VERSION
    lengths = [len(row) for row in item.rows]
    data = np.array([item.num_context, *lengths, *(t for row in item.rows for t in row)], "<i8")
    return hashlib.sha256(f"{version} {item.kind} ".encode() + data.tobytes()).hexdigest()


def _bytes(figures: Sequence[float]) -> bytes:
    return np.array(figures, "<f8").tobytes()


def _figures(item: GeneralItem, values: bytes) -> list[float]:
    """Return stored figures.

    Raises: DamageError: when they are not one for each of the item's rows.
    """
    if len(values) != 8 * len(item.rows):
        raise DamageError(
            f"a score of {item.task} has {len(values)} bytes, not {8 * len(item.rows)}; run "
            "`peer-cl doctor`"
        )
    return list(map(float, np.frombuffer(values, "<f8")))


def known_rows(registry: Registry, live: Snapshot) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows of the newest evaluation in which the same versions were on, if any, and the
    lines on what it left out."""
    for one in registry.evaluated():
        if registry.snapshot(one.snapshot_id).index_tag != live.index_tag:
            continue
        try:
            report = registry.evaluation(one.snapshot_id)
        except DamageError:
            continue
        told = report if isinstance(report, dict) else {}
        rows = told.get("general")
        if isinstance(rows, list) and rows:
            return rows, tuple(told.get("general_left_out", ()))
    return [], ()
