"""A frozen language model with removable expert pools (PEER, He 2024, arXiv 2407.04153).

Names are loaded when they are first used: `import peer_cl` imports no torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from peer_cl import errors
from peer_cl.errors import (
    BaseMismatchError,
    ChangedError,
    CorpusError,
    DamageError,
    FrozenError,
    InputError,
    PeerError,
    ShapeError,
    StateError,
    StoreFormatError,
    StoreLockedError,
    UnknownError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from peer_cl.bases import Base, BaseIdentity, load_base
    from peer_cl.generate import PromptWeights, weigh_prompt
    from peer_cl.hooks import Hooks, register_decoder
    from peer_cl.layer import PeerLayer, PoolShape
    from peer_cl.model import ModelStatus, PeerModel
    from peer_cl.pool import ExpertPool, Segment
    from peer_cl.read import Reading
    from peer_cl.router import Background, RouterKey
    from peer_cl.sparse import PoolOptimiser

try:
    __version__ = version("peer-cl")
except PackageNotFoundError:  # a checkout that only lies on the path
    __version__ = "0.0.0+not.installed"

_MODULES = {
    "bases": ("Base", "BaseIdentity", "load_base"),
    "generate": ("PromptWeights", "weigh_prompt"),
    "hooks": ("Hooks", "register_decoder"),
    "layer": ("PeerLayer", "PoolShape"),
    "model": ("ModelStatus", "PeerModel"),
    "pool": ("ExpertPool", "Segment"),
    "read": ("Reading",),
    "router": ("Background", "RouterKey"),
    "sparse": ("PoolOptimiser",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted([*_HOMES, *(name for name in vars(errors) if name.endswith("Error"))])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'peer_cl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"peer_cl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
