"""Pictures made from result files, for the README and the docs."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

from benchmarks.results import RESULTS, read_results

matplotlib.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"base": "#9aa5b1", "after learning": "#2a6f97"}
"""Of what the base says, and of what the mixture says at the end."""
_LOSS = re.compile(r"loss on (?P<domain>\S+), (?:after )?(?P<after>\S+) \(nats a token\)")

_GONE = re.compile(
    r"(?P<whose>own|others') gain that goes: (?P<how>[^,]+), \d+ rows, (?P<domain>[^,]+), "
    r"(?P<kind>texts|facts) \(share\)"
)
_NAMED_BY = {
    "gradient": "#2a6f97",
    "router weight": "#c98b00",
    "tf-idf": "#5f8a00",
    "random": "#9aa5b1",
}


def demo_picture(folder: Path = RESULTS) -> Path:
    """Draw what the demo learned and what was left of it, from demo.json; return the file."""
    losses: dict[str, dict[str, float]] = {}
    for figure in read_results(folder / "demo.json"):
        found = _LOSS.fullmatch(figure.figure)
        if found and isinstance(figure.value, float):
            losses.setdefault(found["after"], {})[found["domain"]] = figure.value
    rows, domains = list(losses), list(losses["base"])
    plot, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(1, 1.25)
    )
    ends = [("base", losses["base"]), ("after learning", losses[rows[-1]])]
    for shift, (label, row) in zip((-0.2, 0.2), ends, strict=True):
        places = [place + shift for place in range(len(domains))]
        heights = [row[domain] for domain in domains]
        bars = left.bar(places, heights, 0.38, label=label, color=COLOURS[label])
        left.bar_label(bars, fmt="%.2f", fontsize=8)
    left.set_xticks(range(len(domains)), domains)
    left.set_ylabel("loss on unseen documents (nats a token)")
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="upper right", fontsize=8)
    left.margins(y=0.35)
    left.set_title("What was learned", loc="left", fontsize=10)
    change: list[list[float]] = [
        [losses[row][d] - losses["base"][d] for d in domains] for row in rows
    ]
    right.imshow(change, cmap="Blues_r", aspect="auto", vmax=0)
    deepest = min(min(values) for values in change)
    for y, values in enumerate(change):
        for x, value in enumerate(values):
            ink = "white" if value < 0.6 * deepest else "black"
            told = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
            right.text(x, y, told, ha="center", va="center", fontsize=8, color=ink)
    right.set_xticks(range(len(domains)), domains)
    labels = [row if row == "base" else f"after {row}" for row in rows]
    right.set_yticks(range(len(rows)), labels)
    right.set_title("Change of loss against the base, after each domain", loc="left", fontsize=10)
    path = folder / "demo.png"
    plot.savefig(path, dpi=110)
    plt.close(plot)
    return path


def specificity_picture(folder: Path = RESULTS) -> Path:
    """Draw unseen loss against effective documents a row; return the file."""
    points: dict[str, dict[str, float]] = {}
    for figure in read_results(folder / "specificity.json"):
        what, _, shape = figure.figure.rpartition(", ")
        if isinstance(figure.value, float):
            points.setdefault(shape, {})[what] = figure.value
    loss, documents = "unseen loss, pool forced on (nats a token)", "effective documents a row, "
    plot, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for axis, how in zip(axes, ("weighted by use", "unweighted"), strict=True):
        for number, (shape, values) in enumerate(points.items()):
            colour = COLOURS["after learning" if number == 0 else "base"]
            place = values[documents + how], values[loss]
            axis.scatter(*place, color=colour, s=40)
            axis.annotate(shape, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
        axis.set_xlabel(f"effective documents a row, {how}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2, y=0.15)
    axes[0].set_ylabel("loss on unseen documents (nats a token)")
    axes[0].set_title("Rows that few documents use learn less", loc="left", fontsize=10)
    path = folder / "specificity.png"
    plot.savefig(path, dpi=110)
    plt.close(plot)
    return path


def provenance_picture(folder: Path = RESULTS) -> Path:
    """Draw what goes with a document's rows, its own gain against others'; return the file."""
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for figure in read_results(folder / "provenance.json"):
        found = _GONE.fullmatch(figure.figure)
        if found and isinstance(figure.value, float):
            place = (found["kind"], f"{found['how']}, {found['domain']}")
            shares.setdefault(place, {})[found["whose"]] = figure.value
    plot, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharex=True, sharey=True)
    for axis, kind in zip(axes, ("texts", "facts"), strict=True):
        for how, colour in _NAMED_BY.items():
            points = [
                (one["others'"], one["own"])
                for (of, name), one in shares.items()
                if of == kind and name.startswith(f"{how}, ")
            ]
            axis.scatter(*zip(*points, strict=True), color=colour, s=36, label=how)
        axis.axvline(0.05, color="#c4cdd5", linestyle="--", linewidth=1)
        axis.axhline(0.8, color="#c4cdd5", linestyle="--", linewidth=1)
        axis.set_xlabel("share of others' gain that goes (goal: left of the dashed line)")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{kind}: one point a domain", loc="left", fontsize=10)
    axes[0].set_ylabel("share of the document's own gain that goes\n(goal: above the dashed line)")
    axes[0].legend(frameon=False, fontsize=8, title="rows chosen by", title_fontsize=8)
    path = folder / "provenance.png"
    plot.savefig(path, dpi=110)
    plt.close(plot)
    return path
