"""The picture of the demo's figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from pipelines.report import EvaluationReport

matplotlib.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"base": "#9aa5b1", "after learning": "#2a6f97"}


def demo_picture(report: EvaluationReport, path: Path) -> None:
    """Draw what the demo learned and what was left of it, into a PNG file."""
    domains, losses = report.domains, report.matrix.loss_nats
    plot, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(1, 1.25)
    )
    for shift, label, row in ((-0.2, "base", losses[0]), (0.2, "after learning", losses[-1])):
        places = [place + shift for place in range(len(domains))]
        bars = left.bar(places, row, 0.38, label=label, color=COLOURS[label])
        left.bar_label(bars, fmt="%.2f", fontsize=8)
    left.set_xticks(range(len(domains)), domains)
    left.set_ylabel("loss on unseen documents (nats a token)")
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="upper right", fontsize=8)
    left.margins(y=0.35)
    left.set_title("What was learned", loc="left", fontsize=10)
    change = [[now - base for now, base in zip(row, losses[0], strict=True)] for row in losses]
    right.imshow(change, cmap="Blues_r", aspect="auto", vmax=0)
    deepest = min(min(values) for values in change)
    for y, values in enumerate(change):
        for x, value in enumerate(values):
            ink = "white" if value < 0.6 * deepest else "black"
            text = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
            right.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    right.set_xticks(range(len(domains)), domains)
    right.set_yticks(range(len(losses)), ["base", *(f"after {domain}" for domain in domains)])
    right.set_title("Change of loss against the base, after each domain", loc="left", fontsize=10)
    plot.savefig(path, dpi=110)
    plt.close(plot)
