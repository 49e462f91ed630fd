"""The memory: registry, snapshots, objects and index of a store.

`stores.vector_index` and `stores.row_index` are imported by who needs them: they alone load FAISS.
"""

from stores.config import StoreConfig
from stores.layout import StoreLayout
from stores.objects import ObjectStore
from stores.queries import (
    Document,
    DocumentUse,
    DomainDetail,
    DomainState,
    DomainSummary,
    Event,
    ExpertUse,
    Finding,
    HeldBy,
    Job,
    PurgeResult,
    Run,
    Segment,
    Snapshot,
)
from stores.records import NewDocument, NewJob, NewRun, NewScore, NewSegment, NewUse
from stores.registry import Registry
from stores.texts import compress_text, decompress_text, put_texts

__all__ = [
    "Document",
    "DocumentUse",
    "DomainDetail",
    "DomainState",
    "DomainSummary",
    "Event",
    "ExpertUse",
    "Finding",
    "HeldBy",
    "Job",
    "NewDocument",
    "NewJob",
    "NewRun",
    "NewScore",
    "NewSegment",
    "NewUse",
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
