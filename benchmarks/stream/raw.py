"""Raw scores of a piece: sums a document in the repository, tokens in the work folder.

From a piece's file every figure can be computed again; per-token scores, which the mixture needs,
are large and stay in the work folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save
from torch import Tensor

from benchmarks.stream.texts import Texts
from peer_cl.durable import replace_file

Raw = dict[str, Any]
DIGITS = 4


def sums(log_probs: Iterable[np.ndarray | Tensor]) -> list[float]:
    """Return each document's loss, summed over its tokens, nats.

    Example:
        >>> sums([np.array([-0.5, -1.0]), np.array([-2.0])])
        [1.5, 2.0]
    """
    return [round(-float(one.sum()), DIGITS) for one in log_probs]


def rare_sums(
    log_probs: Sequence[np.ndarray], rows: Sequence[Sequence[int]], stock: frozenset[int]
) -> list[float]:
    """Return each document's loss on tokens that are none of the domain's stock words."""
    found = []
    for one, ids in zip(log_probs, rows, strict=True):
        is_rare = np.array([token not in stock for token in ids[1:]], dtype=bool)
        found.append(round(-float(one[is_rare].sum()), DIGITS))
    return found


class RawFolder:
    """The files of pieces that are done.

    Args:
        folder: in the repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, piece: str) -> Path:
        """Return where a piece's scores are."""
        return self.folder / f"{piece.replace('/', '.')}.json"

    def has(self, piece: str) -> bool:
        """Return whether a piece is done."""
        return self.path(piece).is_file()

    def paths(self) -> list[Path]:
        """Return the files of all pieces that are done."""
        return sorted(self.folder.glob("*.json"))

    def seeds(self) -> list[int]:
        """Return the seeds of all pieces that are done."""
        found = (re.search(r"\.s(\d+)\.", path.name) for path in self.paths())
        return sorted({int(match[1]) for match in found if match})

    def read(self, piece: str) -> Raw:
        """Return a piece's scores."""
        found: Raw = json.loads(self.path(piece).read_text(encoding="utf-8"))
        return found

    def of(self, method: str) -> list[Raw]:
        """Return the scores of every piece of a method, whatever its seed."""
        return [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(self.folder.glob(f"{method}.s*.json"))
        ]

    def write(self, piece: str, raw: Raw) -> None:
        """Keep a piece's scores: whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(raw, separators=(",", ":")) + "\n"
        replace_file(self.path(piece), text.encode())


class TokenScores:
    """Log probabilities a token, by subject and text, in one file a subject.

    Args:
        folder: the work folder's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, subject: str, texts: Texts, scores: dict[str, list[np.ndarray]]) -> None:
        """Keep a subject's scores of groups of texts, beside those that it has."""
        known = self._known(subject)
        for group, rows in texts.items():
            pairs = zip(rows, scores[group], strict=True)
            known |= {key(ids): one.astype("<f4") for ids, one in pairs}
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._path(subject), save(known))

    def read(self, subject: str, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return a subject's scores of rows, fp64.

        Raises: KeyError: when a row was never scored.
        """
        found = self._known(subject)
        return [found[key(ids)].astype("<f8") for ids in rows]

    def has(self, subject: str, rows: Sequence[Sequence[int]]) -> bool:
        """Return whether a subject scored all of these rows."""
        path = self._path(subject)
        if not path.is_file():
            return False
        with safe_open(path, framework="numpy") as file:
            return {key(ids) for ids in rows} <= set(file.keys())

    def _known(self, subject: str) -> dict[str, np.ndarray]:
        path = self._path(subject)
        return load_file(path) if path.is_file() else {}

    def _path(self, subject: str) -> Path:
        return self.folder / f"{subject.replace('/', '.')}.safetensors"


def key(ids: Sequence[int]) -> str:
    """Return the name of a text's scores."""
    return hashlib.sha256(np.array(ids, dtype="<i8").tobytes()).hexdigest()[:24]
