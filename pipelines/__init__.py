"""What happens to a store, from a raw corpus to a model that knows it: one verb a file.

Names are loaded when they are first used, so that reading verbs import no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.batches import pad, tokenise
    from pipelines.corpora import SourceDocument, read_corpus
    from pipelines.facts import Fact, Relation
    from pipelines.files.tables import Columns
    from pipelines.init import init_store
    from pipelines.settings import TrainingSettings
    from pipelines.store import Store, open_store

_HOMES = {
    "Columns": "files.tables",
    "Fact": "facts",
    "Relation": "facts",
    "SourceDocument": "corpora",
    "Store": "store",
    "TrainingSettings": "settings",
    "init_store": "init",
    "open_store": "store",
    "pad": "batches",
    "read_corpus": "corpora",
    "tokenise": "batches",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipelines.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
