"""Raw scores of held-out documents as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from stores.queries import HeldOutScores

COLUMNS = ("title", "change_nats", "base_nats", "nats", "added_nats", "tokens", "source", "id")


def documents_frame(found: Sequence[HeldOutScores]) -> pd.DataFrame:
    """Return one row a document, the one that gained least first.

    base_nats, nats: loss a token of the base, and with the domain's pool alone. change_nats: the
    second less the first; negative = learned. added_nats: the same over the whole document.
    """
    rows = []
    for item in found:
        tokens = len(item.log_probs)
        base, own = -float(item.base_log_probs.sum()), -float(item.log_probs.sum())
        a_token = 1 / max(1, tokens)
        rows.append(
            (
                item.title,
                (own - base) * a_token,
                base * a_token,
                own * a_token,
                own - base,
                tokens,
                item.source,
                item.document_id,
            )
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values("change_nats", ascending=False, ignore_index=True)


def tokens_frame(item: HeldOutScores) -> pd.DataFrame:
    """Return one row a token of a document and model: the loss of the base, and with the pool."""
    number = range(1, len(item.log_probs) + 1)
    return pd.concat(
        [
            pd.DataFrame({"token": number, "model": model, "nats": -values})
            for model, values in (("base", item.base_log_probs), ("with the pool", item.log_probs))
        ],
        ignore_index=True,
    )


def safe_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet takes for formulas."""
    texts = frame.select_dtypes(["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_safe) for name in texts})


def _safe(text: object) -> object:
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@")) else text
