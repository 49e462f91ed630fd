"""A frozen language model with removable expert pools (PEER, He 2024, arXiv 2407.04153).

Names are loaded when they are first used: `import peer_cl` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from peer_cl import errors

if TYPE_CHECKING:
    from peer_cl.bases import Base, load_base
    from peer_cl.cache import PeerCache
    from peer_cl.errors import (
        BaseMismatchError,
        BusyError,
        ChangedError,
        CorpusError,
        DamageError,
        DomainNameError,
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
    from peer_cl.layer import PeerLayer, PoolShape
    from peer_cl.model import PeerModel
    from peer_cl.pool import BaseIdentity, ExpertPool, Segment
    from peer_cl.scoring import Scores
    from peer_cl.signature import Background, Signature
    from peer_cl.status import ModelStatus

    __version__: str

_HOMES = {
    "Base": "bases",
    "load_base": "bases",
    "PeerCache": "cache",
    "BaseMismatchError": "errors",
    "BusyError": "errors",
    "ChangedError": "errors",
    "CorpusError": "errors",
    "DamageError": "errors",
    "DomainNameError": "errors",
    "FrozenError": "errors",
    "InputError": "errors",
    "PeerError": "errors",
    "ShapeError": "errors",
    "StateError": "errors",
    "StoreFormatError": "errors",
    "StoreLockedError": "errors",
    "UnknownError": "errors",
    "UnsupportedError": "errors",
    "PeerLayer": "layer",
    "PoolShape": "layer",
    "ModelStatus": "status",
    "PeerModel": "model",
    "BaseIdentity": "pool",
    "ExpertPool": "pool",
    "Segment": "pool",
    "Scores": "scoring",
    "Background": "signature",
    "Signature": "signature",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'peer_cl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"peer_cl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})


def _version() -> str:
    """Return the installed version; a checkout that only lies on the path has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("peer-cl")
    except PackageNotFoundError:
        return "0.0.0+not.installed"
