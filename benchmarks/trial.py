"""One domain of the stream with changed settings: what its pool learns, and does to prose."""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from app.learning import parse_layers
from benchmarks.results import RESULTS, Figure, reported, table
from benchmarks.stream import corpora, pools
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.workshop import Workshop, recalled, score
from peer_cl.errors import InputError, unknown_name
from peer_cl.layer import PoolShape
from pipelines.general import ReaderScorer
from pipelines.packages import cache_folder
from pipelines.quiet import get_ready
from pipelines.settings import TrainingSettings

COMMAND = "python -m benchmarks trial"
PLACES = (0, 1, 2, 4, 8, 16, 32)
"""Where each stretch of a document begins, in tokens after the start token."""
NUM_LEARNED = 30
"""Documents of those learned that are read."""
Scored = Sequence[np.ndarray]
"""Log probabilities by document."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Learn one domain as the stream does, but for what is said, and print what came of it.

    No figure is kept: a trial speaks for no default. What it finds belongs into docs/LOG.md.

    Args:
        arguments: DOMAIN, `--set NAME=VALUE` (of training's settings or of the pool's shape; may
            be repeated), `--host-layers 3,6,9`, `--documents N` and `--facts N` of a domain that
            is small, `--work FOLDER` for stores without a domain.

    Raises:
        InputError: when a setting is no NAME=VALUE, or its value cannot be used.
        UnknownError: when there is no such setting.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("domain", choices=corpora.NAMES)
    add_changes(parser)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--facts", type=int, default=Workshop.most_facts)
    parser.add_argument("--work", type=Path, default=cache_folder() / "stream")
    options = parser.parse_args(list(arguments))
    settings, layers = changes(options)
    get_ready()
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(
            raw=RawFolder(RESULTS / "stream"),
            work=Path(folder),
            names=corpora.NAMES,
            settings=settings,
            most_documents=options.documents,
            most_facts=options.facts,
            host_layers=layers,
            empties=options.work,
        )
        print(table(list(tried(shop, options.domain))))
    return []


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Let a command be told what differs from the defaults; `changes` reads it."""
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--host-layers", metavar="LAYERS")


def changes(options: argparse.Namespace) -> tuple[TrainingSettings, tuple[int, ...] | None]:
    """Return the settings and the host layers that were told; None: the default ones.

    Raises: as `changed`, and InputError: when layers are no numbers.
    """
    layers = parse_layers(options.host_layers) if options.host_layers else None
    return changed(TrainingSettings(), options.set), layers


def changed(settings: TrainingSettings, said: Sequence[str]) -> TrainingSettings:
    """Return settings with what was said changed, each as NAME=VALUE.

    Raises:
        InputError: when one is no NAME=VALUE, or its value cannot be used.
        UnknownError: when neither training nor a pool's shape has such a setting.

    Example:
        >>> found = changed(TrainingSettings(), ["kl_weight=0.2", "num_experts=1024"])
        >>> found.kl_weight, found.shape.num_experts
        (0.2, 1024)
    """
    of_shape = {one.name for one in fields(PoolShape)}
    of_run = {one.name for one in fields(TrainingSettings)} - {"shape"}
    new: dict[str, dict[str, Any]] = {"shape": {}, "run": {}}
    for one in said:
        name, equals, text = one.partition("=")
        if not equals:
            raise InputError(f"a setting is NAME=VALUE, not {one!r}")
        if name not in of_shape | of_run:
            raise unknown_name("setting", name, of_shape | of_run)
        new["shape" if name in of_shape else "run"][name] = _value(text)
    return replace(settings, shape=replace(settings.shape, **new["shape"]), **new["run"])


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:  # a word
        return text


def tried(shop: Workshop, domain: str) -> Iterator[Figure]:
    """Learn a domain and yield what its pool, forced on, makes of unseen text, facts and prose.

    Of texts that no figure of the stream reads, since settings are chosen by what is told here.
    """
    data, texts = shop.prepared[domain], shop.spare(domain)
    unseen, prose = f"spare/{domain}", [one for one in texts if one.startswith("prose")]
    texts["learned"] = [row.ids for row in data.rows if row.kind == "text"][:NUM_LEARNED]
    with shop.store("trial") as store:
        seconds = pools.ingest(store, shop.domain(domain), shop.settings, shop.progress)
        branches, _ = pools.load([store], [domain])
        base = score(ReaderScorer(branches.base), texts, shop.progress)
        pool = ReaderScorer(functools.partial(branches.branch, domain))
        found = score(pool, texts, shop.progress)
        recall = recalled(pool.answers(data.questions), [one.wording for one in data.questions])
    yield from _losses("learned", base["learned"], found["learned"])
    if texts[unseen]:  # a small corpus has none
        yield from _losses("unseen", base[unseen], found[unseen])
        yield from _gains(base[unseen], found[unseen])
    for wording, answered in recall.items():
        yield reported(f"recall, {wording} (share)", float(np.mean(answered)), COMMAND)
    for group in prose:
        yield _added(group, base[group], found[group])
    together = [[row for group in prose for row in scored[group]] for scored in (base, found)]
    yield _added("all prose", *together)
    yield reported("ingest (s)", round(seconds), COMMAND)


def _losses(what: str, base: Scored, pool: Scored) -> Iterator[Figure]:
    for name, rows in (("base", base), ("pool forced on", pool)):
        loss = -float(np.concatenate(rows).mean())
        yield reported(f"{what} loss, {name} (nats a token)", loss, COMMAND)


def _gains(base: Scored, pool: Scored) -> Iterator[Figure]:
    gains = [own - bare for own, bare in zip(pool, base, strict=True)]
    for first, end in zip(PLACES, (*PLACES[1:], None), strict=True):
        gain = sum(float(one[first:end].sum()) for one in gains) / len(gains)
        name = f"gain from token {first + 1}" + (f" to {end}" if end else " on")
        yield reported(f"{name} (nats a document)", gain, COMMAND)


def _added(what: str, base: Scored, pool: Scored) -> Figure:
    added = float(np.concatenate(base).mean() - np.concatenate(pool).mean())
    return reported(f"added to {what}, pool always on (nats a token)", added, COMMAND)
