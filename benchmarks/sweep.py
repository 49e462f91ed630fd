"""What the training defaults come from: one corpus, one setting changed at a time."""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, reported
from peer_cl.layer import PoolShape
from pipelines import demo_corpora, init_store
from pipelines.settings import TrainingSettings
from pipelines.store import Store

COMMAND = "make sweep"
DEFAULT = TrainingSettings()
TRIALS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "512 tokens a step": {"tokens_per_step": 512},
    "1,024 tokens a step": {"tokens_per_step": 1024},
    "text twice": {"text_passes": 2.0},
    "text three times": {"text_passes": 3.0},
    "rows' rate 1e-2": {"row_learning_rate": 1e-2},
    "rows' rate 3e-3": {"row_learning_rate": 3e-3},
    "output scaled by 8": {"shape": PoolShape(output_scale=8.0)},
    "N=784": {"shape": PoolShape(num_experts=784)},
    "key width 64": {"shape": PoolShape(key_width=64)},
    "H8 K8": {"shape": PoolShape(num_heads=8)},
    "facts in one wording": {"varied_share": 0.0},
    "answers weigh like other tokens": {"answer_weight": 1.0},
    "fp32": {"precision": "fp32"},
}
"""Settings that differ from the defaults, by the name that the table shows."""
HOSTS: dict[str, tuple[int, ...]] = {
    "all layers from 3": tuple(range(3, 30)),
    "every third layer from 3": tuple(range(3, 30, 3)),
    "five layers from 3": (3, 9, 15, 21, 27),
    "ten layers from 20": tuple(range(20, 30)),
}
"""Host layers; the first set takes every trial, the others rows in all as many as the first."""
ROWS = DEFAULT.shape.num_experts * len(next(iter(HOSTS.values())))
"""Experts of a pool over all host layers, by default."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Train on one demo corpus with each setting; return reduction and recall of each.

    Args:
        arguments: `--domain NAME`, `--tokens N`, and `--only TRIAL` (may be repeated), which keeps
            no figures.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep")
    parser.add_argument("--domain", default="medicine", choices=demo_corpora.DOMAINS)
    parser.add_argument("--tokens", type=int, default=27_000)
    parser.add_argument("--only", action="append", choices=list(TRIALS))
    options = parser.parse_args(list(arguments))
    figures: list[Figure] = []
    for number, (where, layers) in enumerate(HOSTS.items()):
        trials = TRIALS if number == 0 else {"defaults": {"shape": _as_many_rows(len(layers))}}
        if options.only:
            trials = {name: TRIALS[name] for name in options.only if name in trials}
        if trials:
            figures += _on_layers(where, layers, trials, options)
    return [] if options.only else figures


def _on_layers(
    where: str,
    layers: tuple[int, ...],
    trials: dict[str, dict[str, Any]],
    options: argparse.Namespace,
) -> list[Figure]:
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        init_store(Path(folder) / "knowledge", host_layers=layers, capacity=8) as store,
    ):
        for name, changed in trials.items():
            found = _trial(store, dataclasses.replace(DEFAULT, **changed), options)
            print(f"{where}, {name}: {found}", flush=True)
            figures += [
                reported(f"{key}, {options.domain}, {where}, {name}", value, COMMAND)
                for key, value in found.items()
            ]
    return figures


def _as_many_rows(num_layers: int) -> PoolShape:
    """Return the shape of which so many layers have about `ROWS` experts."""
    return PoolShape(num_experts=round(math.sqrt(ROWS / num_layers)) ** 2)


def _trial(store: Store, settings: TrainingSettings, options: argparse.Namespace) -> dict[str, Any]:
    corpus = demo_corpora.load(options.domain, options.tokens)
    done = store.ingest(options.domain, corpus.documents, facts=corpus.facts, settings=settings)
    report = store.evaluate(background=False)
    store.roll_back(options.domain, why="the next trial", out=True)
    recall = {row["wording"]: row["forced"] for row in report["recall"]}
    return {
        "loss reduction, forced on (share)": report["mixture"][0]["reduction"],
        "recall, seen wording (share)": recall["seen"],
        "recall, reworded (share)": recall["reworded"],
        "ingest (s)": round(done.seconds),
    }
