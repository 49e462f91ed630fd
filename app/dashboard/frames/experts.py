"""The use of a pool's rows as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from app.dashboard.addresses import document_address, row_address
from pipelines.layer_use import rows_a_layer

if TYPE_CHECKING:
    from pipelines.experts import NearRow
    from pipelines.layer_use import LayerUse
    from pipelines.row_tokens import RowToken
    from stores import ExpertUse, HeldBy, Segment

NUM_BINS = 24
CONTEXT_TOKENS = 8


def layers_frame(layers: Sequence[LayerUse]) -> pd.DataFrame:
    """Return one row a segment and host layer."""
    columns = (
        "label",
        "host_layer",
        "num_rows",
        "usage",
        "unevenness",
        "num_dead",
        "num_documents",
        "effective_documents",
    )
    return pd.DataFrame([asdict(item) for item in layers], columns=list(columns))


def rows_frame(own: Sequence[ExpertUse], segment: Segment) -> pd.DataFrame:
    """Return one row an expert row, those that never fired too.

    i, j: its two sub-keys, so that its number is S * i + j. share: of the layer's router weight.

    Args:
        own: the use of the rows of one host layer that fired.
        segment: whose rows they are.
    """
    num = rows_a_layer(segment)
    fired = np.array([use.row for use in own], dtype=np.int64)
    frame = pd.DataFrame({"row": np.arange(num)})
    side = math.isqrt(max(0, num - 1)) + 1
    frame["i"], frame["j"] = frame["row"] // side, frame["row"] % side
    for name, values in (
        ("weight", [use.weight for use in own]),
        ("documents", [use.num_documents for use in own]),
        ("effective", [use.effective_documents for use in own]),
    ):
        column = np.zeros(num)
        column[fired] = values
        frame[name] = column
    total = float(frame["weight"].sum())
    return frame.assign(
        share=frame["weight"] / (total or 1.0), documents=frame["documents"].astype(int)
    )


def sorted_frame(layers: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return each layer's shares from the busiest row down, rows that fired.

    Args:
        layers: by host layer, a frame of `rows_frame`.
    """
    parts = []
    for layer, rows in layers.items():
        shares = np.sort(rows["share"].to_numpy())[::-1]
        shares = shares[shares > 0]
        rank = np.arange(1, len(shares) + 1)
        parts.append(pd.DataFrame({"layer": layer, "rank": rank, "share": shares}))
    return pd.concat(parts, ignore_index=True)


def spread_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many rows that fired have how many effective documents: low, high, rows.

    Args:
        rows: of `rows_frame`.
    """
    effective = rows.loc[rows["weight"] > 0, "effective"].to_numpy()
    counts, edges = np.histogram(effective, bins=NUM_BINS)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": counts})


def held_frame(held: HeldBy, limit: int) -> pd.DataFrame:
    """Return the documents that a row holds, the one with the largest share first.

    Each has the address of its page in the column "document".

    Args:
        held: what the row holds.
        limit: at most so many.
    """
    listed = list(zip(held.documents, held.shares, strict=True))[:limit]
    return pd.DataFrame(
        [
            (document_address(item.document_id), item.title, share, item.kind, item.source)
            for item, share in listed
        ],
        columns=["document", "title", "share", "kind", "source"],
    )


def near_frame(near: Sequence[NearRow]) -> pd.DataFrame:
    """Return the rows of other pools that have read what is like it, with addresses to open."""
    columns = ["domain", "label", "host_layer", "row", "similarity", "open"]
    opened = [row_address(item.domain, item.label, item.host_layer, item.row) for item in near]
    rows = [asdict(item) | {"open": address} for item, address in zip(near, opened, strict=True)]
    return pd.DataFrame(rows, columns=columns)


def tokens_frame(tokens: Sequence[RowToken]) -> pd.DataFrame:
    """Return one row a token that uses a row, in reading order; place counts from 0.

    Tokens stand in quotes, since spaces are part of them.
    """
    rows = []
    for place, token in enumerate(tokens):
        if token.weight > 0:
            before = "".join(one.text for one in tokens[max(0, place - CONTEXT_TOKENS) : place])
            following = repr(token.following) if token.following else ""
            rows.append((place, before, repr(token.text), following, token.weight, token.strength))
    columns = ("place", "before", "token", "following", "weight", "strength")
    return pd.DataFrame(rows, columns=list(columns))
