"""A document as tables: which versions hold it, and which of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from app.dashboard.addresses import domain_address, row_address
from app.output import moment

if TYPE_CHECKING:
    from pipelines.holders import DocumentRow
    from stores.queries import DocumentPlace


def places(found: Sequence[DocumentPlace]) -> pd.DataFrame:
    """Return one row a version that holds a document, the oldest first.

    Returns: domain (the address of its page), version, state, split, before and after (losses in
        nats a token, NaN where it was not learned), gain (positive = learned), snapshot, came,
        title and source.
    """
    table = pd.DataFrame(
        [
            (
                domain_address(item.document.domain),
                item.label,
                place_in_words(item),
                item.document.split,
                item.document.base_nats,
                item.document.nats,
                item.snapshot_id,
                moment(item.created_at),
                item.document.title,
                item.document.source,
            )
            for item in found
        ],
        columns=[
            "domain",
            "version",
            "state",
            "split",
            "before",
            "after",
            "snapshot",
            "came",
            "title",
            "source",
        ],
    )
    table[["before", "after"]] = table[["before", "after"]].astype("float64")
    table.insert(6, "gain", table["before"] - table["after"])
    return table


def place_in_words(place: DocumentPlace) -> str:
    """Return whether a version is live, and whether the document's own rows are off there."""
    if place.is_masked:
        return "masked"
    return "live" if place.is_live else "not live"


def rows(
    found: Sequence[DocumentRow], of_places: Sequence[DocumentPlace], limit: int
) -> pd.DataFrame:
    """Return the rows that hold a document, the most specific first.

    Args:
        found: in that order.
        of_places: where the document is held.
        limit: at most so many rows.

    Returns: domain, version, expert (layer and row), weight (the router's, summed over tokens),
        share (of all that the row is used for, 0 to 1), documents (that use the row), open (the
        address of the row's page).
    """
    by_segment = {item.document.segment_id: item for item in of_places}
    listed = [(item, by_segment[item.segment_id]) for item in found[:limit]]
    return pd.DataFrame(
        [
            (
                place.document.domain,
                place.label,
                f"{item.host_layer}:{item.row}",
                item.weight,
                item.share,
                item.num_documents,
                row_address(place.document.domain, place.label, item.host_layer, item.row),
            )
            for item, place in listed
        ],
        columns=["domain", "version", "expert", "weight", "share", "documents", "open"],
    )
