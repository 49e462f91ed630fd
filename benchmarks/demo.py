"""The demo's figures: what the evaluation of its store says, against goals and floors."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator, Sequence

from benchmarks.pictures import demo_picture
from benchmarks.results import Figure, at_least, at_most, reported, write_results
from peer_cl.errors import StateError
from pipelines import open_store
from pipelines.report import EvaluationReport, RoutingRow
from pipelines.store import Store

COMMAND = "make demo && .venv/bin/python -m benchmarks demo"
GOALS = {"reduction": 0.32, "efficiency": 0.88, "efficiency_continuation": 0.96}
FLOORS = {"reduction": 0.22, "efficiency": 0.75, "efficiency_continuation": 0.75}
"""Goals may be missed, floors may not."""
RECALL_GOALS = {"taught": 0.9, "paraphrase": 0.5}
BWT_FLOOR, IDENTICAL_FLOOR, TAUGHT_FLOOR = -0.001, 0.5, 0.6
WORDS = {
    "reduction": "loss reduction, oracle routing",
    "efficiency": "routing efficiency, every domain active",
    "efficiency_continuation": "routing efficiency on second halves, routed",
}
UNITS = {
    "acc": "nats a token, higher is better",
    "learning_accuracy": "nats a token, higher is better",
    "fwt": "nats a token, higher is better",
    "forgetting": "nats a token, lower is better",
    "retention": "share, higher is better",
}


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of the store that `make demo` left.

    Args:
        arguments: `--store FOLDER`, default ./knowledge.

    Raises:
        StateError: when the store was never evaluated; or, after the results are written, when a
            floor does not hold.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks demo")
    parser.add_argument("--store", default="knowledge")
    with open_store(parser.parse_args(list(arguments)).store) as store:
        report = evaluation(store)
        found = figures(store, report)
    demo_picture(write_results("demo", found))
    if broken := broken_floors(report):
        raise StateError("these floors do not hold: " + "; ".join(broken))
    return found


def evaluation(store: Store) -> EvaluationReport:
    """Return the evaluation of the live snapshot.

    Raises:
        StateError: when there is none.
    """
    queries = store.registry.queries
    stored = queries.evaluation(queries.live().id)
    if stored is None:
        raise StateError(f"{store.registry.folder} was not evaluated: run make demo first")
    return EvaluationReport.from_json(stored.report)


def figures(store: Store, report: EvaluationReport) -> list[Figure]:
    """Return every figure of a store and its evaluation."""
    chains = {name: store.registry.queries.domain(name).chain for name in report.domains}
    largest = max(sum(segment.size_bytes for segment in chain) for chain in chains.values())
    return [
        *_by_domain(report),
        *_background(report),
        *_recall(report),
        reported(
            f"bound where a prompt mentions one domain, odds {report.mention_odds:g} (nats)",
            report.mention_bound_nats,
            COMMAND,
        ),
        *_matrix(report),
        reported("pool on disk, the largest domain (MB)", largest / 1e6, COMMAND),
        *(
            reported(f"ingest, {name} (s)", round(chain[-1].seconds), COMMAND)
            for name, chain in chains.items()
        ),
        reported("machine", f"{os.cpu_count()} cores, {platform.machine()}", COMMAND),
    ]


def broken_floors(report: EvaluationReport) -> list[str]:
    """Return what is worse than it may ever be, a line each."""
    found = [
        (f"{WORDS[key]}, {row.domain}", _share(row, key), FLOORS[key])
        for row in report.routing
        for key in FLOORS
    ]
    for source in report.background:
        if source.kind == "prose":
            found.append((f"identical, {source.source}", source.identical, IDENTICAL_FLOOR))
    for asked in report.recall:
        if asked.wording == "taught":
            found.append((f"recall, {asked.domain}", asked.oracle, TAUGHT_FLOOR))
    found.append(("BWT", report.metrics.bwt, BWT_FLOOR))
    found.append(("worst loss not added", -report.max_added_nats, -report.bound_nats))
    return [f"{name}: {value:.4g} < {floor:g}" for name, value, floor in found if value < floor]


def _share(row: RoutingRow, key: str) -> float:
    """Return one of a domain's shares; 0 where its pool gained nothing of which to keep a share."""
    return float(getattr(row, key) or 0.0)


def _by_domain(report: EvaluationReport) -> Iterator[Figure]:
    for row in report.routing:
        for key, goal in GOALS.items():
            name = f"{WORDS[key]}, {row.domain} (share)"
            yield at_least(name, _share(row, key), goal, COMMAND)
        others = max(row.reduction_by_other_domains.values(), default=0.0)
        for name, value in (
            ("reduction without stock words", row.reduction_without_stock_words),
            ("reduction by another domain's pool, the best", others),
            ("documents whose domain is found", row.found),
        ):
            yield reported(f"{name}, {row.domain} (share)", value, COMMAND)
        name = f"worst added loss of a document, {row.domain} (nats)"
        yield at_most(name, row.max_added_nats, report.bound_nats, COMMAND)


def _background(report: EvaluationReport) -> Iterator[Figure]:
    for row in report.background:
        said = f"{row.source} ({row.kind}, {row.documents} documents)"
        identical = f"identical to the bare base, {said} (share)"
        if row.kind == "prose":
            yield at_least(identical, row.identical, 0.99, COMMAND)
        else:
            yield reported(identical, row.identical, COMMAND)
        name = f"worst added loss of a document, {said} (nats)"
        yield at_most(name, row.max_added_nats, report.bound_nats, COMMAND)


def _recall(report: EvaluationReport) -> Iterator[Figure]:
    for row in report.recall:
        name = f"exact recall, {row.domain}, {row.wording}"
        yield reported(f"{name}, base (share)", row.base, COMMAND)
        goal = RECALL_GOALS[row.wording]
        yield at_least(f"{name}, oracle routing (share)", row.oracle, goal, COMMAND)
        yield reported(f"{name}, routed (share)", row.routed, COMMAND)


def _matrix(report: EvaluationReport) -> Iterator[Figure]:
    yield at_least("bwt (nats a token)", report.metrics.bwt, 0.0, COMMAND)
    for key, unit in UNITS.items():
        value = getattr(report.metrics, key)
        if value is not None:
            yield reported(f"{key} ({unit})", value, COMMAND)
    for number, row in enumerate(report.matrix.loss_nats):
        after = "base" if number == 0 else f"after {report.domains[number - 1]}"
        for name, value in zip(report.domains, row, strict=True):
            yield reported(f"loss on {name}, {after} (nats a token)", value, COMMAND)
