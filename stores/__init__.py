"""The memory: registry, snapshots, objects and index of a store.

`stores.vector_index` is imported by who needs it: it alone loads FAISS.
"""

from stores.config import StoreConfig
from stores.layout import StoreLayout
from stores.objects import ObjectStore
from stores.queries import (
    Document,
    DomainDetail,
    DomainState,
    DomainSummary,
    Event,
    Finding,
    PurgeResult,
    Run,
    Segment,
    Snapshot,
)
from stores.records import NewDocument, NewRun, NewScore, NewSegment
from stores.registry import Registry
from stores.texts import compress_text, decompress_text, put_texts

__all__ = [
    "Document",
    "DomainDetail",
    "DomainState",
    "DomainSummary",
    "Event",
    "Finding",
    "NewDocument",
    "NewRun",
    "NewScore",
    "NewSegment",
    "ObjectStore",
    "PurgeResult",
    "Registry",
    "Run",
    "Segment",
    "Snapshot",
    "StoreConfig",
    "StoreLayout",
    "compress_text",
    "decompress_text",
    "put_texts",
]
