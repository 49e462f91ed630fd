"""The picture of the demo's figures."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

from benchmarks.results import read_results

matplotlib.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"base": "#9aa5b1", "after learning": "#2a6f97"}
_LOSS = re.compile(r"loss on (?P<domain>\S+), (?:after )?(?P<after>\S+) \(nats a token\)")


def demo_picture(results: Path) -> Path:
    """Draw what the demo learned and what was left of it, beside its figures; return the file.

    Args:
        results: demo.json.
    """
    losses: dict[str, dict[str, float]] = {}
    for figure in read_results(results):
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
    change = [[losses[row][d] - losses["base"][d] for d in domains] for row in rows]
    right.imshow(change, cmap="Blues_r", aspect="auto", vmax=0)
    deepest = min(min(values) for values in change)
    for y, values in enumerate(change):
        for x, value in enumerate(values):
            ink = "white" if value < 0.6 * deepest else "black"
            text = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
            right.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    right.set_xticks(range(len(domains)), domains)
    right.set_yticks(range(len(rows)), [row if row == "base" else f"after {row}" for row in rows])
    right.set_title("Change of loss against the base, after each domain", loc="left", fontsize=10)
    path = results.with_suffix(".png")
    plot.savefig(path, dpi=110)
    plt.close(plot)
    return path
