"""Raw scores of held-out documents as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stores.queries import HeldOutScores

COLUMNS = (
    "title",
    "change_nats",
    "base_nats",
    "nats",
    "alone_nats",
    "added_nats",
    "tokens",
    "source",
    "id",
)
MIXTURE, ALONE = "with pools", "its pool alone"


def mixture_log_probs(item: HeldOutScores, share: float) -> NDArray[np.float64] | None:
    """Return the mixture's log probability of each token, every asked pool from the first on.

    The same as `peer_cl.mixture.mixture_log_probs` where every pool enters before the first token,
    as an evaluation's matrix has it, without torch: of the whole text up to a token the mixture's
    probability is the mean of its members', by their shares.

    Args:
        item: with the scores of every asked version.
        share: one pool's.

    Returns: (T,), nats; None where an asked version did not score the document.
    """
    if item.asked_log_probs is None:
        return None
    priors = np.log([1 - share * len(item.asked_log_probs), *[share] * len(item.asked_log_probs)])
    members = np.vstack([item.base_log_probs, item.asked_log_probs])
    so_far = np.logaddexp.reduce(priors[:, None] + members.cumsum(axis=1), axis=0)
    mixed: NDArray[np.float64] = np.diff(so_far, prepend=0.0)
    return mixed


def documents_frame(found: Sequence[HeldOutScores], share: float) -> pd.DataFrame:
    """Return one row a document, the one that gained least first.

    base_nats, nats, alone_nats: loss a token of the base, of the mixture of all asked pools (NaN
    where it is not known), and with the domain's pool alone. change_nats: the second less the
    first; negative = learned. added_nats: the same over the whole document.
    """
    rows = []
    for item in found:
        mixed = mixture_log_probs(item, share)
        tokens = len(item.log_probs)
        base, alone = -float(item.base_log_probs.sum()), -float(item.log_probs.sum())
        now = math.nan if mixed is None else -float(mixed.sum())
        a_token = 1 / max(1, tokens)
        rows.append(
            (
                item.title,
                (now - base) * a_token,
                base * a_token,
                now * a_token,
                alone * a_token,
                now - base,
                tokens,
                item.source,
                item.document_id,
            )
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values("change_nats", ascending=False, ignore_index=True)


def tokens_frame(item: HeldOutScores, share: float) -> pd.DataFrame:
    """Return one row a token of a document and model: the base, the mixture, the pool alone."""
    mixed = mixture_log_probs(item, share)
    lines = [("base", item.base_log_probs), (ALONE, item.log_probs)]
    if mixed is not None:
        lines.insert(1, (MIXTURE, mixed))
    number = range(1, len(item.log_probs) + 1)
    return pd.concat(
        [
            pd.DataFrame({"token": number, "model": model, "nats": -values})
            for model, values in lines
        ],
        ignore_index=True,
    )


def safe_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet takes for formulas."""
    texts = frame.select_dtypes(["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_safe) for name in texts})


def _safe(text: object) -> object:
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@")) else text
