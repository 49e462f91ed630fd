"""The stream's figures as a table with a row a method, for people who compare."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Figure, shown
from benchmarks.stream.matrices import FORCED, NAMED
from benchmarks.stream.pieces import JOINT, POOLS
from benchmarks.stream.words import WORDS

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
EQUAL = "lora-mixture-equal"
"""One adapter a domain, with as many parameters as a pool."""
SHORT_METHODS = (
    "base",
    *(WORDS[name] for name in (POOLS, f"{POOLS} {NAMED}", f"{POOLS} {FORCED}")),
    *(WORDS[name] for name in ("lora", "lora-replay", "osf", "full", "sparse", "rag")),
    *(WORDS[name] for name in (EQUAL, f"{EQUAL} {FORCED}", JOINT)),
)
"""Rows of the short table: each method as it is meant to be used, and where its domain is told."""
SHORT_COLUMNS = {
    key: COLUMNS[key]
    for key in COLUMNS
    if not key.startswith(("recall right after", "trained parameters"))
}
"""Columns of the short table: what was learned, what is left of it, and what it cost the rest."""


def methods_table(figures: Sequence[Figure], *, is_short: bool = False) -> str:
    """Return a Markdown table: a row a method, the bare model's first; no column without a figure.

    What several seeds gave is told by its mean (or worst), as the figure is.

    Args:
        figures: of the stream.
        is_short: leave out variants of a method and the columns that say least.

    Example:
        >>> base = Figure("base: unseen loss (nats a token)", 3.5, None, None, "x")
        >>> print(methods_table([base]).splitlines()[2])
        | base | 3.5 |
    """
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        method, _, rest = figure.figure.partition(": ")
        name = next((known for known in (*COLUMNS, *BASE) if rest.startswith(known)), None)
        if name is not None and (method in SHORT_METHODS or not is_short):
            rows.setdefault(method, {})[BASE.get(name, name)] = shown(figure.value)
    of_table = SHORT_COLUMNS if is_short else COLUMNS
    columns = [key for key in of_table if any(key in cells for cells in rows.values())]
    heads = ["method", *(COLUMNS[key] for key in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method, cells in rows.items():
        lines.append("| " + " | ".join([method, *(cells.get(key, "") for key in columns)]) + " |")
    return "\n".join([*lines, ""])
