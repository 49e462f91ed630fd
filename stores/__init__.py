"""What exists and where: the registry, its snapshots and objects, and indexes.

What the registry answers is in `stores.queries`. `stores.index` is imported by who needs it: it
alone loads FAISS. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stores.config import StoreConfig
    from stores.objects import ObjectStore
    from stores.queries import Queries, changes
    from stores.records import NewDocument, NewScore, NewSegment
    from stores.registry import Registry

_HOMES = {
    "NewDocument": "records",
    "NewScore": "records",
    "NewSegment": "records",
    "ObjectStore": "objects",
    "Queries": "queries",
    "Registry": "registry",
    "StoreConfig": "config",
    "changes": "queries",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stores' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stores.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
