"""The stream's figures as a table with a row a method, for people who compare."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Figure, shown

COLUMNS = {
    "unseen loss after learning (nats a token)": "unseen loss after learning (nats a token)",
    "BWT in loss (nats a token)": "BWT (nats a token)",
    "recall right after learning, seen wording (share)": "recall after learning, as taught",
    "recall right after learning, reworded (share)": "after learning, in other words",
    "recall at the end, seen wording (share)": "recall at the end, as taught",
    "recall at the end, reworded (share)": "at the end, in other words",
    "loss added to foreign prose (nats a token)": "added to foreign prose (nats a token)",
    "worst added loss of a foreign document (nats)": "worst foreign document (nats)",
    "general ability, change of accuracy, all tasks (share)": "accuracy on general tasks (change)",
    "trained parameters, first domain": "parameters, first domain",
    "trained parameters, last domain": "parameters, last domain",
}
"""Figures of a method, as they are named after its words and a colon, and the columns' heads."""
BASE = {
    "unseen loss (nats a token)": "unseen loss after learning (nats a token)",
    "recall, seen wording (share)": "recall at the end, seen wording (share)",
    "recall, reworded wording (share)": "recall at the end, reworded (share)",
}
"""The bare model's figures, and which column each stands in."""


def methods_table(figures: Sequence[Figure]) -> str:
    """Return a Markdown table: a row a method, the bare model's first; no column without a figure.

    What several seeds gave is told by its mean (or worst), as the figure is.

    Args:
        figures: of the stream.

    Example:
        >>> base = Figure("base: unseen loss (nats a token)", 3.5, None, None, "x")
        >>> print(methods_table([base]).splitlines()[2])
        | base | 3.5 |
    """
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        method, _, rest = figure.figure.partition(": ")
        name = next((known for known in (*COLUMNS, *BASE) if rest.startswith(known)), None)
        if name is not None:
            rows.setdefault(method, {})[BASE.get(name, name)] = shown(figure.value)
    columns = [key for key in COLUMNS if any(key in cells for cells in rows.values())]
    heads = ["method", *(COLUMNS[key] for key in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method, cells in rows.items():
        lines.append("| " + " | ".join([method, *(cells.get(key, "") for key in columns)]) + " |")
    return "\n".join([*lines, ""])
