"""General ability beside a store: do its domains change what the base answers elsewhere?

ARC-easy, PIQA, HellaSwag and LAMBADA, which no domain teaches, by lm-evaluation-harness, from files
(`--data FOLDER`): the base, and the store with the router deciding.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval

from app.output import show_progress
from benchmarks.results import Figure
from pipelines import open_store
from pipelines.harness import BASE, ROUTED, StoreModel

TASKS = {"ARC-easy": "arc_easy", "PIQA": "piqa", "HellaSwag": "hellaswag_1k"}
"""Of several choices, by their files."""
LAMBADA = "lambada_openai"
MOST_LOST = 0.01


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return accuracies of the base and of the store (`--data`, `--store`, `--limit`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ability")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", default="knowledge")
    parser.add_argument("--limit", type=int, default=250)
    options = parser.parse_args(list(arguments))
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = [*(_choices(name, options.data / f"{file}.jsonl") for name, file in TASKS.items()),
             _last_word(options.data / f"{LAMBADA}.jsonl")]  # fmt: skip
    shares: dict[str, dict[str, float]] = {}
    with open_store(options.store) as store, show_progress() as progress:
        model = StoreModel(store, progress=progress)
        for way in (BASE, ROUTED):
            model.way = way
            found = lm_eval.simple_evaluate(
                model, tasks=[dict(task) for task in tasks], limit=options.limit, bootstrap_iters=0
            )
            shares[way] = {name: one["acc,none"] for name, one in found["results"].items()}
    figures = []
    for name, base in shares[BASE].items():
        said = f"{name}, {options.limit} questions"
        routed = shares[ROUTED][name]
        figures += [
            Figure(f"{said}: base (accuracy)", base),
            Figure(f"{said}: routed (accuracy)", routed),
            Figure(f"{said}: base less routed", base - routed, most=MOST_LOST),
        ]
    return figures


def _task(name: str, path: Path) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "metric_list": [{"metric": "acc"}],
    }


def _choices(name: str, path: Path) -> dict[str, Any]:
    return _task(name, path) | {
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}\nAnswer:" if name == "ARC-easy" else "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
    }


def _last_word(path: Path) -> dict[str, Any]:
    return _task("LAMBADA", path) | {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + continuation}}",  # the harness adds no blank here
    }
