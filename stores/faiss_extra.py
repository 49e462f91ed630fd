"""FAISS comes with an extra: what is said where it was left out.

Its two builds, faiss-cpu and faiss-gpu, put their files in the same places, so neither can be a
plain dependency: whoever has the other one would get both, and the one installed last.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from peer_cl.errors import UnsupportedError


def check_faiss() -> None:
    """Make sure that FAISS is installed, without importing it: before minutes are spent.

    Raises: UnsupportedError: when it is not; the message names the extras that bring it.
    """
    if importlib.util.find_spec("faiss") is None:
        raise UnsupportedError(
            "FAISS is not installed, and a store can neither learn nor be loaded without it: run "
            '`pip install "peer-cl[cpu]"` (or `peer-cl[gpu]`; of a checkout, `".[cpu]"`)'
        )


def import_faiss() -> Any:
    """Return the module `faiss`.

    Raises: UnsupportedError: when it is not installed.
    """
    check_faiss()
    return importlib.import_module("faiss")
