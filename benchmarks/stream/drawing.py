"""Pictures of the stream: what each method learned and kept, as heat maps, curves and a scatter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.results import RESULTS
from benchmarks.stream.matrices import OF_QUESTIONS
from benchmarks.stream.methods_table import SHORT_METHODS
from benchmarks.stream.pieces import JOINT
from benchmarks.stream.report import Line
from peer_cl import metrics

matplotlib.use("Agg")

from matplotlib import pyplot as plt

OURS, OTHERS = "#2a6f97", ("#c98b00", "#9b2226", "#5f8a00", "#6a4c93", "#0a9396", "#7f5539")
JOINT_COLOUR = "#212529"
DASHES = ("-", "--", ":")
"""Of lines whose colours are all taken."""
HIGHEST = 1.5
"""Nats a token above the base's that the curves' picture shows."""
_DOTS_PER_INCH = 150


def draw(lines: Sequence[Line], names: Sequence[str], folder: Path = RESULTS) -> list[Path]:
    """Draw all pictures of the stream; return their files.

    What tells in questions alone has the same losses, and is not drawn twice. Curves are of the
    short table's methods: more would hide each other.
    """
    lines = [line for line in lines if line.method.partition(" ")[2] not in OF_QUESTIONS]
    short = [line for line in lines if line.words in SHORT_METHODS]
    return [_maps(lines, names, folder), _curves(short, folder)]


def _maps(lines: Sequence[Line], names: Sequence[str], folder: Path) -> Path:
    """Draw each method's matrix as change over the base: blue is learned, red is lost.

    The scale ends at the most that was learned: one method that breaks down would fade all others.
    """
    lines = [line for line in lines if line.method != JOINT] or list(lines)
    num_columns = min(3, len(lines))
    num_rows = -(-len(lines) // num_columns)
    plot, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(4.2 * num_columns, 3.4 * num_rows),
        layout="constrained",
        squeeze=False,
    )
    changes = [[_minus(row, line.losses[0]) for row in line.losses] for line in lines]
    most = max(-value for change in changes for row in change for value in row) or 1.0
    for axis in axes.flat[len(lines) :]:
        axis.set_axis_off()
    image: Any = None
    for axis, line, change in zip(axes.flat, lines, changes, strict=False):
        image = axis.imshow(change, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
        axis.set_title(line.words, loc="left", fontsize=9)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(names) + 1), ["base", *names], fontsize=7)
        axis.set_ylabel("after learning", fontsize=7)
    bar = plot.colorbar(image, ax=axes, shrink=0.6, extend="max")
    bar.set_label("loss on unseen documents, less the base's (nats a token)", fontsize=8)
    return _saved(plot, folder / "stream-matrices.png")


def _curves(lines: Sequence[Line], folder: Path) -> Path:
    """Draw the mean loss on what was learned so far, and learning against forgetting.

    A method that breaks down leaves the left picture: its whole height would flatten all others.
    What learned all domains at once has no course: it is a level, and there is nothing to forget.
    """
    plot, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    others = ((colour, dashes) for dashes in DASHES for colour in OTHERS)
    for line in lines:
        if line.method == JOINT:
            level = sum(_minus(line.losses[-1], line.losses[0])) / len(line.losses[0])
            left.axhline(level, color=JOINT_COLOUR, lw=1.2, ls=(0, (1, 1)), label=line.words)
            continue
        colour, dashes = (OURS, "-") if line.method == "peer" else next(others)
        means = [
            sum(line.losses[i][j] - line.losses[0][j] for j in range(i)) / i
            for i in range(1, len(line.losses))
        ]
        width = 2.5 if line.method == "peer" else 1.2
        marker = "o" if dashes == "-" else "^"
        look: dict[str, Any] = {
            "color": colour,
            "ls": dashes,
            "lw": width,
            "marker": marker,
            "ms": 4,
        }
        left.plot(range(1, len(line.losses)), means, label=line.words, **look)
        learned = -metrics.learning_accuracy(line.scores)
        forgotten = metrics.forgetting(line.scores)
        right.scatter(learned, forgotten, color=colour, s=40, marker=marker)
    left.axhline(0.0, color="#9aa5b1", lw=1, ls="--")
    left.set_ylim(top=min(left.get_ylim()[1], HIGHEST))
    left.set_xlabel("domains learned")
    left.set_ylabel("loss on them, less the base's (nats a token)")
    plot.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    right.set_xlabel("loss on a domain right after learning it (nats a token)")
    right.set_ylabel("forgetting at the end (nats a token)")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return _saved(plot, folder / "stream-curves.png")


def _minus(row: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - first for value, first in zip(row, base, strict=True)]


def _saved(plot: Any, path: Path) -> Path:
    plot.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(plot)
    return path
