"""An evaluation's report, and continuations side by side, as tables.

The figures are the report's; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.bound import broken_rows, worst_added
from app.output import print_table, say
from pipelines.documents import several

if TYPE_CHECKING:
    from pipelines.writing import Writing

LOSSES = {"base_loss_nats": "base", "forced_loss_nats": "forced", "loss_nats": "mixture"}
MIXTURE = {
    "domain": "domain",
    "documents": "documents",
    **LOSSES,
    "reduction": "reduction",
    "kept": "kept",
    "kept_continuation": "kept after context",
    "asked": "asked",
    "max_added_nats": "worst added",
}
BACKGROUND = {
    "source": "source",
    "kind": "kind",
    "documents": "documents",
    "identical": "identical",
    "base_loss_nats": "base",
    "loss_nats": "mixture",
    "max_added_nats": "worst added",
}
RECALL = {
    "domain": "domain",
    "wording": "wording",
    "base": "base",
    "forced": "forced",
    "mixture": "mixture",
}
"""Columns of the tables: the report's key and the heading that people see."""
GENERAL = {
    "task": "task",
    "kind": "kind",
    "items": "items",
    "before": "base alone",
    "after": "with pools",
    "changed_items": "changed",
    "gained": "gained",
    "lost": "lost",
    "interval": "95 % interval",
    "asked_items": "asked",
}
"""The same for general ability; before, after and interval are made of several keys."""

NONE_ENABLED = "no domain is live and enabled: the bare model answers; `peer-cl domains` lists them"
NATS = "nats a token"
METRICS = {
    "acc": (NATS, "higher is better"),
    "learning_accuracy": (NATS, "higher is better"),
    "bwt": (NATS, "higher is better"),
    "fwt": (NATS, "higher is better"),
    "forgetting": (NATS, "lower is better"),
    "retention": ("share", "higher is better"),
}
"""Unit and sense of each metric; scores are losses with their sign flipped."""


def print_report(report: dict[str, Any]) -> None:
    """Print what `evaluate` found."""
    say(f"snapshot {report['snapshot']}, budget {report['budget']}")
    if report.get("name_odds"):
        say(
            f"names count, with odds {report['name_odds']:g}: a document loses at most "
            f"{report['bound_nats']:.4f} nats, a prompt that names one domain and what follows it "
            f"{report['named_bound_nats']:.4f} together"
        )
    _print_matrix(report)
    print_table(
        "\nmetrics (a score is a loss with its sign flipped)",
        ("metric", "value", "unit", "sense"),
        [(n.replace("_", " "), value, *METRICS[n]) for n, value in report["metrics"].items()],
    )
    for domain in report["unmeasured"]:
        say(f"{domain}: no text of it is held out and unseen, so nothing was measured on it")
    for domain, near in report.get("near_learned", {}).items():
        documents = several(len(near), "held-out document")
        say(f"{domain}: {documents} not measured, since a live pool learned a near copy")
    _print_rows("\ndomains (losses in nats a token)", MIXTURE, report["mixture"])
    _print_cut(report)
    _print_rows("\nforeign text, every pool asked", BACKGROUND, report["background"])
    _print_bound(report)
    _print_general(report)
    _print_rows("\nexact recall of trained facts", RECALL, report["recall"])
    for domain, num in report.get("too_long_questions", {}).items():
        questions = _were(num, "question")
        say(f"{domain}: {questions} not asked: longer, with the answer, than the base reads")


def _print_matrix(report: dict[str, Any]) -> None:
    """Print losses: one row for the base and one after each ingest, one column a domain."""
    domains, matrix = report["domains"], report["matrix"]["loss_nats"]
    names = ["base", *(f"after {domain}" for domain in domains)]
    rows = [(name, *losses) for name, losses in zip(names, matrix, strict=True)]
    print_table("\nloss on unseen documents (nats a token)", ("", *domains), rows)


def _were(num: int, what: str) -> str:
    return f"{several(num, what)} {'was' if num == 1 else 'were'}"


def _print_cut(report: dict[str, Any]) -> None:
    """Say of how many held-out documents the end was not scored."""
    num = sum(row.get("cut_documents", 0) for row in report["mixture"])
    if num:
        documents = _were(num, "document")
        say(f"{documents} scored to the first {report['scored_tokens']:,} tokens only")


def _print_bound(report: dict[str, Any]) -> None:
    """Say whether every document kept to the bound that the store promises."""
    worst, bound = worst_added(report), report.get("bound_nats")
    if worst is None or bound is None:
        return
    broken = broken_rows(report)
    for name, added in broken:
        say(
            f"\na document of {name} lost {added:.4f} nats, MORE than the bound of {bound:.4f}: "
            "this is a fault of peer-cl; please report it, with the base's name"
        )
    if not broken and worst < 0:
        say(f"\nevery document gained at least {-worst:.4f} nats in all; the bound is {bound:.4f}")
    elif not broken:
        say(f"\nno document lost more than {worst:.4f} nats in all; the bound is {bound:.4f}")


def _print_general(report: dict[str, Any]) -> None:
    """Print general ability before and after, where it was measured."""
    for line in report.get("general_left_out", ()):
        say(line)
    rows = [_general_row(row) for row in report.get("general", ())]
    if rows:
        _print_rows(
            "\ngeneral ability, each context asking its pools (share right; texts: nats a token)",
            GENERAL,
            rows,
        )


def _general_row(row: dict[str, Any]) -> dict[str, Any]:
    figure = "loss_nats" if row["kind"] == "text" else "accuracy"
    low, high = row["difference_interval"]
    made = {"before": row[f"base_{figure}"], "after": row[figure]}
    return row | made | {"interval": f"{low:+.4f} to {high:+.4f}"}


def _print_rows(title: str, columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> None:
    print_table(title, tuple(columns.values()), [[row.get(key) for key in columns] for row in rows])


def print_writings(title: str, writings: Sequence[Writing]) -> None:
    """Print continuations beside what the base alone writes, with the held weights."""
    print_table(
        f"\n{title}",
        ("prompt", "base alone", "with pools", "held weights"),
        [
            (item.prompt, (item.base_text or "").strip(), item.text.strip(), weights_in_words(item))
            for item in writings
        ],
    )


def weights_in_words(writing: Writing) -> str:
    """Return which pools were asked, with the weights that were held while writing."""
    asked = [f"{name} {weight:.3f}" for name, weight in writing.weights.items()]
    return ", ".join([*(asked or ["no pool"]), f"base {writing.base_weight:.3f}"])
