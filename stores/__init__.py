"""What exists and where: the registry, its snapshots and objects, and indexes.

`stores.index` is imported by who needs it: it alone loads FAISS.
"""

from stores.config import StoreConfig
from stores.objects import ObjectStore
from stores.queries import (
    Change,
    Document,
    DocumentPlace,
    DocumentUse,
    DomainDetail,
    DomainState,
    DomainSummary,
    EvaluatedSnapshot,
    Evaluation,
    Event,
    ExpertUse,
    Finding,
    HeldBy,
    HeldDocument,
    HeldOutScores,
    PurgeResult,
    Queries,
    Ranking,
    Run,
    Segment,
    Snapshot,
    changes,
)
from stores.records import NewDocument, NewScore, NewSegment, NewUse, Score
from stores.registry import Registry

__all__ = [
    "Change",
    "Document",
    "DocumentPlace",
    "DocumentUse",
    "DomainDetail",
    "DomainState",
    "DomainSummary",
    "EvaluatedSnapshot",
    "Evaluation",
    "Event",
    "ExpertUse",
    "Finding",
    "HeldBy",
    "HeldDocument",
    "HeldOutScores",
    "NewDocument",
    "NewScore",
    "NewSegment",
    "NewUse",
    "ObjectStore",
    "PurgeResult",
    "Queries",
    "Ranking",
    "Registry",
    "Run",
    "Score",
    "Segment",
    "Snapshot",
    "StoreConfig",
    "changes",
]
