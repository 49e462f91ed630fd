"""The demo's figures: what the evaluation of its store says, against goals and floors."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence

from app.report import METRICS
from benchmarks.results import Figure, store_options, write_results
from peer_cl.errors import StateError
from pipelines import open_store
from pipelines.report import EvaluationReport, RoutingRow
from pipelines.store import Store

COMMAND = "make demo && .venv/bin/python -m benchmarks demo"
SHARES = {
    "reduction": ("loss reduction, oracle routing", 0.32, 0.22),
    "efficiency": ("routing efficiency, every domain active", 0.88, 0.75),
    "efficiency_continuation": ("routing efficiency on second halves, routed", 0.96, 0.75),
}
"""A domain's shares: what they are, goal and floor. Goals may be missed, floors may not."""
RECALL_GOALS = {"taught": 0.9, "paraphrase": 0.5}
BWT_FLOOR, IDENTICAL_FLOOR, TAUGHT_FLOOR = -0.001, 0.5, 0.6


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of the store that `make demo` left (or `--store FOLDER`).

    Raises StateError when the store was never evaluated; or, after the results are written, when a
    floor does not hold.
    """
    with open_store(store_options("demo", arguments).store) as store:
        report = evaluation(store)
        found = list(figures(store, report))
    write_results("demo", found, COMMAND)
    if broken := broken_floors(report):
        raise StateError("these floors do not hold: " + "; ".join(broken))
    return found


def evaluation(store: Store) -> EvaluationReport:
    """Return the evaluation of the live snapshot."""
    queries = store.registry.queries
    stored = queries.evaluation(queries.live().id)
    if stored is None:
        raise StateError(f"{store.registry.folder} was not evaluated: run make demo first")
    return EvaluationReport.from_json(stored.report)


def figures(store: Store, report: EvaluationReport) -> Iterator[Figure]:
    """Yield every figure of a store and its evaluation."""
    for row in report.routing:
        for key, (words, goal, _) in SHARES.items():
            yield Figure(f"{words}, {row.domain} (share)", _share(row, key), least=goal)
        said = f"{row.domain} (share)"
        others = max(row.reduction_by_other_domains.values(), default=0.0)
        yield Figure(f"reduction without stock words, {said}", row.reduction_without_stock_words)
        yield Figure(f"reduction by another domain's pool, the best, {said}", others)
        yield Figure(f"documents whose domain is found, {said}", row.found)
        name = f"worst added loss of a document, {row.domain} (nats)"
        yield Figure(name, row.max_added_nats, most=report.bound_nats)
    for source in report.background:
        said = f"{source.source} ({source.kind}, {source.documents} documents)"
        least = 0.99 if source.kind == "prose" else None
        yield Figure(f"identical to the bare base, {said} (share)", source.identical, least=least)
        name = f"worst added loss of a document, {said} (nats)"
        yield Figure(name, source.max_added_nats, most=report.bound_nats)
    for asked in report.recall:
        name, goal = f"exact recall, {asked.domain}, {asked.wording}", RECALL_GOALS[asked.wording]
        yield Figure(f"{name}, base (share)", asked.base)
        yield Figure(f"{name}, oracle routing (share)", asked.oracle, least=goal)
        yield Figure(f"{name}, routed (share)", asked.routed)
    name = "bound of an answer whose prompt asks for an item of one domain (nats)"
    yield Figure(name, report.answer_bound_nats)
    yield Figure("bwt (nats a token)", report.metrics.bwt, least=0.0)
    for key, (unit, sense) in METRICS.items():
        value = getattr(report.metrics, key)
        if key != "bwt" and value is not None:
            yield Figure(f"{key} ({unit}, {sense})", value)
    rows = ["base", *(f"after {domain}" for domain in report.domains)]
    for after, losses in zip(rows, report.matrix.loss_nats, strict=True):
        for domain, loss in zip(report.domains, losses, strict=True):
            yield Figure(f"loss on {domain}, {after} (nats a token)", loss)
    chains = {name: store.registry.queries.domain(name).chain for name in report.domains}
    largest = max(sum(segment.size_bytes for segment in chain) for chain in chains.values())
    yield Figure("pool on disk, the largest domain (MB)", largest / 1e6)
    for domain, chain in chains.items():
        yield Figure(f"ingest, {domain} (s)", round(chain[-1].seconds))
    yield Figure("machine", f"{os.cpu_count()} cores, {platform.machine()}")


def broken_floors(report: EvaluationReport) -> list[str]:
    """Return what is worse than it may ever be, a line each."""
    found = [
        (f"{words}, {row.domain}", _share(row, key), floor)
        for row in report.routing
        for key, (words, _, floor) in SHARES.items()
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
    return float(getattr(row, key) or 0.0)  # None: the pool gained nothing to keep a share of
