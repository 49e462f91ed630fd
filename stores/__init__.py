"""What exists and where: the registry, its snapshots and objects, and indexes.

What the registry answers is in `stores.queries`. `stores.index` is imported by who needs it: it
alone loads FAISS.
"""

from stores.config import StoreConfig
from stores.objects import ObjectStore
from stores.queries import Queries, changes
from stores.records import NewDocument, NewScore, NewSegment
from stores.registry import Registry

__all__ = [
    "NewDocument",
    "NewScore",
    "NewSegment",
    "ObjectStore",
    "Queries",
    "Registry",
    "StoreConfig",
    "changes",
]
