"""Which objects the registry needs, and what for."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from stores.config import StoreConfig
from stores.records import MASK, ROWS
from stores.schema import DomainRow, SegmentDocumentRow, SegmentRow

KIND_IN_WORDS = {ROWS: "pool", MASK: "mask"}
"""What a segment of each kind holds."""


def needed_objects(session: Session, config: StoreConfig) -> dict[str, str]:
    """Return the ids of all objects that unpurged rows or store.toml name, with their users."""
    needed = {config.background_object: "the background statistics"}
    if config.ordinary_object is not None:
        needed[config.ordinary_object] = "the inputs of ordinary text"
    texts = (
        select(SegmentDocumentRow.text_object, DomainRow.name)
        .join(SegmentRow, SegmentRow.id == SegmentDocumentRow.segment_id)
        .join(DomainRow, DomainRow.id == SegmentRow.domain_id)
        .where(SegmentDocumentRow.text_object.is_not(None))
    )
    for object_id, name in session.execute(texts):
        needed[str(object_id)] = f"a document of {name}"
    segments = select(SegmentRow, DomainRow.name).join(
        DomainRow, DomainRow.id == SegmentRow.domain_id
    )
    for row, name in session.execute(segments.where(SegmentRow.purged_at.is_(None))):
        needed[row.signature_object] = f"the signature of {name} {row.label}"
        needed[row.pool_object] = f"the {KIND_IN_WORDS[row.kind]} of {name} {row.label}"
        if row.use_object is not None:
            needed[row.use_object] = f"the rows' inputs of {name} {row.label}"
    return needed
