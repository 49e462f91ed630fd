"""Figures of the demo: what its store's evaluation says, against goals and floors."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from app.report import METRICS
from benchmarks.pictures import demo_picture
from benchmarks.results import Figure, at_least, at_most, reported, write_results
from peer_cl.errors import StateError
from stores import Registry

COMMAND = "make demo && .venv/bin/python -m benchmarks demo"
GOALS = {"reduction": 0.32, "kept": 0.88, "kept_continuation": 0.96}
FLOORS = {"reduction": 0.22, "kept": 0.75, "kept_continuation": 0.75}
BWT_FLOOR, IDENTICAL_FLOOR, SEEN_FLOOR = -0.001, 0.5, 0.6
WORDS = {
    "reduction": "loss reduction, pool forced on",
    "kept": "kept by the mixture, every pool asked",
    "kept_continuation": "kept on second halves, shortlist on",
}


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of the store that `make demo` left.

    Args:
        arguments: `--store FOLDER`, default ./knowledge.

    Raises:
        StateError: when the store was never evaluated, or, after the results are written, when a
            floor does not hold.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks demo")
    parser.add_argument("--store", default="knowledge")
    folder = parser.parse_args(list(arguments)).store
    with Registry.open(folder) as registry:
        report = registry.evaluation(registry.live().id)
        if report is None:
            raise StateError(f"{folder} was not evaluated: run make demo first")
        sizes = [summary.size_bytes for summary in registry.domains() if summary.is_live]
        runs = [registry.domain(name).runs[-1] for name in report["domains"]]
    figures = [
        *_by_domain(report),
        *_background(report),
        *_recall(report),
        reported(
            f"bound where a prompt names one domain, odds {report['name_odds']:g} (nats)",
            report["named_bound_nats"],
            COMMAND,
        ),
        *_matrix(report),
        reported("pool on disk (MB a domain)", max(sizes) / 1e6, COMMAND),
        *(
            reported(f"ingest, {name} (s)", round(run.seconds), COMMAND)
            for name, run in zip(report["domains"], runs, strict=True)
        ),
        reported("machine", f"{os.cpu_count()} cores, {platform.machine()}", COMMAND),
    ]
    write_results("demo", figures)
    write_results("headline", _headline(report))
    demo_picture()
    broken = list(_broken_floors(report))
    if broken:
        raise StateError("these floors do not hold: " + "; ".join(broken))
    return figures


def _broken_floors(report: dict[str, Any]) -> Iterator[str]:
    """Yield what is worse than it may ever be; goals may be missed, floors may not."""
    found: list[tuple[str, float, float]] = []
    for row in report["mixture"]:
        found += [
            (f"{WORDS[key]}, {row['domain']}", _gained(row, key), FLOORS[key]) for key in FLOORS
        ]
    for row in report["background"]:
        if row["kind"] == "prose":
            found.append((f"identical, {row['source']}", row["identical"], IDENTICAL_FLOOR))
    for row in report["recall"]:
        if row["wording"] == "seen":
            found.append((f"recall, {row['domain']}", row["forced"], SEEN_FLOOR))
    found.append(("BWT", report["metrics"]["bwt"], BWT_FLOOR))
    for row in [*report["mixture"], *report["background"]]:
        name = row.get("domain") or row["source"]
        found.append(
            (f"worst loss not added, {name}", -row["max_added_nats"], -report["bound_nats"])
        )
    # Written so that a value that is no number breaks its floor.
    broken = [one for one in found if not one[1] >= one[2]]
    yield from (f"{name}: {value:.4g} < {floor:g}" for name, value, floor in broken)


def _gained(row: dict[str, Any], key: str) -> float:
    """Return one of a domain's shares; 0 where its pool gained nothing of which to keep a share."""
    return float(row[key] or 0.0)


def _headline(report: dict[str, Any]) -> list[Figure]:
    """Return the few figures that the README opens with: the worst domain or source of each."""
    rows, recall = report["mixture"], report["recall"]
    prose = [row for row in report["background"] if row["kind"] == "prose"]
    added = [row["max_added_nats"] for row in [*rows, *report["background"]]]
    num_documents = sum(row["documents"] for row in [*rows, *report["background"]])
    figures = [
        at_least(
            f"{WORDS[key]}: worst domain (share)", min(_gained(r, key) for r in rows), goal, COMMAND
        )
        for key, goal in GOALS.items()
    ]
    figures += [
        at_most(
            f"worst added loss of any of {num_documents} documents (nats a document)",
            max(added),
            report["bound_nats"],
            COMMAND,
        ),
        at_least(
            "prose documents that ask no pool: worst source (share)",
            min(row["identical"] for row in prose),
            0.99,
            COMMAND,
        ),
        at_least("BWT (nats a token)", report["metrics"]["bwt"], 0.0, COMMAND),
    ]
    for wording, goal in (("seen", 0.9), ("reworded", 0.5)):
        asked = [row for row in recall if row["wording"] == wording]
        name = f"exact recall of facts, {wording} wording"
        forced, mixed = (min(row[how] for row in asked) for how in ("forced", "mixture"))
        figures += [
            at_least(f"{name}, pool forced on: worst domain (share)", forced, goal, COMMAND),
            reported(f"{name}, mixture: worst domain (share)", mixed, COMMAND),
        ]
    return figures


def _by_domain(report: dict[str, Any]) -> list[Figure]:
    bound = report["bound_nats"]
    figures = []
    for row in report["mixture"]:
        for key, goal in GOALS.items():
            figures.append(
                at_least(f"{WORDS[key]}, {row['domain']} (share)", _gained(row, key), goal, COMMAND)
            )
        stock = row["reduction_without_stock_words"]
        figures += [
            reported(f"reduction without stock words, {row['domain']} (share)", stock, COMMAND),
            reported(
                f"reduction by another domain's pool, {row['domain']} (share, the best)",
                max(row["reduction_by_other_pools"].values(), default=0.0),
                COMMAND,
            ),
            reported(
                f"documents that ask their pool, {row['domain']} (share)", row["asked"], COMMAND
            ),
            at_most(
                f"worst added loss of a document, {row['domain']} (nats)",
                row["max_added_nats"],
                bound,
                COMMAND,
            ),
        ]
    return figures


def _background(report: dict[str, Any]) -> list[Figure]:
    figures = []
    for row in report["background"]:
        name = f"{row['source']} ({row['kind']}, {row['documents']} documents)"
        if row["kind"] == "prose":
            figures.append(at_least(f"identical, {name} (share)", row["identical"], 0.99, COMMAND))
        else:
            figures.append(reported(f"identical, {name} (share)", row["identical"], COMMAND))
        figures.append(
            at_most(
                f"worst added loss of a document, {name} (nats)",
                row["max_added_nats"],
                report["bound_nats"],
                COMMAND,
            )
        )
    return figures


def _recall(report: dict[str, Any]) -> list[Figure]:
    figures = []
    for row in report["recall"]:
        goal = 0.9 if row["wording"] == "seen" else 0.5
        name = f"exact recall, {row['domain']}, {row['wording']} wording"
        figures += [
            reported(f"{name}, base (share)", row["base"], COMMAND),
            at_least(f"{name}, pool forced on (share)", row["forced"], goal, COMMAND),
            reported(f"{name}, mixture (share)", row["mixture"], COMMAND),
        ]
    return figures


def _matrix(report: dict[str, Any]) -> list[Figure]:
    losses, names = report["matrix"]["loss_nats"], report["domains"]
    figures = [at_least("BWT (nats a token)", report["metrics"]["bwt"], 0.0, COMMAND)]
    figures += [
        reported(f"{key} ({', '.join(METRICS[key])})", value, COMMAND)
        for key, value in report["metrics"].items()
        if key != "bwt"
    ]
    for number, row in enumerate(losses):
        after = "base" if number == 0 else f"after {names[number - 1]}"
        figures += [
            reported(f"loss on {name}, {after} (nats a token)", value, COMMAND)
            for name, value in zip(names, row, strict=True)
        ]
    return figures
