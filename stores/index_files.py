"""Index files: bytes with a side file that says of which state they are and what hash they have.

A library's own writer, on a full disk, can leave an empty file without an error, and a flipped byte
loads silently. So bytes are written by us, the side file last, and nothing is read unverified.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from peer_cl.durable import replace_file

IndexState = Literal["fresh", "missing", "stale", "damaged"]
SIGNATURES = "signatures"
INDEX_NAMES = re.compile(rf"{SIGNATURES}\.(faiss|json)")
"""The names that an index has on disk: `remove_index` and a purge delete these and no others."""


def save_index(folder: Path, name: str, *, tag: str, data: bytes, details: Any) -> None:
    """Write an index's bytes and its side file; a crash in between leaves a damaged one."""
    folder.mkdir(parents=True, exist_ok=True)
    side = {"tag": tag, "sha256": hashlib.sha256(data).hexdigest(), "details": details}
    replace_file(_data_path(folder, name), data)
    replace_file(_side_path(folder, name), json.dumps(side).encode())


def load_index(folder: Path, name: str, tag: str) -> tuple[bytes, Any] | None:
    """Return an index's bytes and details, or None when it is missing, stale or damaged."""
    state, data, details = _read(folder, name, tag)
    return (data, details) if state == "fresh" else None


def index_state(folder: Path, name: str, tag: str) -> IndexState:
    """Return how an index stands to the state that `tag` names."""
    return _read(folder, name, tag)[0]


def remove_index(folder: Path, name: str) -> None:
    """Remove an index; it is rebuilt when it is needed next."""
    for path in (_side_path(folder, name), _data_path(folder, name)):
        path.unlink(missing_ok=True)


def _read(folder: Path, name: str, tag: str) -> tuple[IndexState, bytes, Any]:
    """Return state, bytes and details; the bytes are empty unless the state is fresh."""
    try:
        side = json.loads(_side_path(folder, name).read_bytes())
        data = _data_path(folder, name).read_bytes()
    except FileNotFoundError:
        is_half = _side_path(folder, name).exists() or _data_path(folder, name).exists()
        return ("damaged" if is_half else "missing"), b"", None
    except (OSError, ValueError):
        return "damaged", b"", None
    if not isinstance(side, dict) or hashlib.sha256(data).hexdigest() != side.get("sha256"):
        return "damaged", b"", None
    if side.get("tag") != tag:
        return "stale", b"", None
    return "fresh", data, side.get("details")


def _data_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.faiss"


def _side_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
