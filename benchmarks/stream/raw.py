"""Raw scores, keyed by text alone: one compressed file a method in docs/results/raw/.

From these files every figure of the stream is computed. Losses are nats, summed over a document's
tokens and keyed by the document; answers are 1 or 0, keyed by prompt and answer (see
`benchmarks.corpora.frozen`). base.json.zst also says which texts and questions there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.results import RESULTS
from peer_cl.errors import StateError
from peer_cl.saving import replace_file

RAW = RESULTS / "raw"
DIGITS = 4
WORDINGS = ("taught", "paraphrase")

Keyed = dict[str, float]
"""Values by key."""
Piece = dict[str, Any]
"""What one part of a method's run found: "nats", "right" and what the part was."""
Scores = dict[str, Any]
"""What a file holds: "method"; "pieces" by "sSEED/NUMBER-DOMAIN" or "sSEED/mixture"; and more."""


class RawFolder:
    """The files of all methods, in one folder."""

    def __init__(self, folder: Path = RAW) -> None:
        self.folder = folder

    def read(self, method: str) -> Scores:
        """Return a method's scores; no pieces where nothing was measured yet."""
        path = self._path(method)
        if not path.is_file():
            return {"method": method, "pieces": {}}
        content: Scores = json.loads(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
        return content

    def write(self, scores: Scores) -> None:
        """Keep a method's scores: whole or not at all."""
        packed = json.dumps(scores, separators=(",", ":")).encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(
            self._path(scores["method"]), zstandard.ZstdCompressor(level=19).compress(packed)
        )

    def add(self, method: str, pieces: Mapping[str, Piece]) -> None:
        """Keep more pieces of a method."""
        scores = self.read(method)
        scores["pieces"].update(pieces)
        self.write(scores)

    @property
    def has_base(self) -> bool:
        """Whether the bare model's scores are there."""
        return self._path("base").is_file()

    def base(self) -> BaseScores:
        """Return the bare model's scores, and which texts and questions there are."""
        if not self.has_base:
            raise StateError(f"no base.json.zst in {self.folder}: it is part of the repository")
        return BaseScores(self.read("base"))

    def _path(self, method: str) -> Path:
        return self.folder / f"{method}.json.zst"


class BaseScores:
    """The bare model's scores: the content of base.json.zst."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.texts: dict[str, list[str]] = content["texts"]
        """Keys by group: test/DOMAIN, blocks128/DOMAIN, prose/SOURCE, near-domain/SOURCE."""
        self.questions: dict[str, dict[str, list[str]]] = content["questions"]
        """Keys by domain and wording."""
        self.tokens: dict[str, int] = content["tokens"]
        self.nats: Keyed = content["nats"]
        self.right: Keyed = content["right"]

    @property
    def names(self) -> tuple[str, ...]:
        """The domains in the order in which they are learned."""
        return tuple(self.questions)

    def about(self, names: Sequence[str]) -> BaseScores:
        """Return the same of some domains' questions alone."""
        found = copy(self)
        found.questions = {name: self.questions[name] for name in names}
        return found

    def keys(self, kind: str) -> list[str]:
        """Return the keys of every group of a kind: test, blocks128, prose, near-domain."""
        return [k for group, ks in self.texts.items() if group.startswith(f"{kind}/") for k in ks]

    def loss(self, nats: Keyed, name: str) -> float:
        """Return the loss on a domain's unseen documents, nats a token."""
        return self._per_token(nats, self.texts[f"test/{name}"])

    def added(self, nats: Keyed, kind: str) -> float:
        """Return the loss on a kind's texts above the base's, nats a token; positive = worse."""
        keys = self.keys(kind)
        return self._per_token(nats, keys) - self._per_token(self.nats, keys)

    def recall(self, right: Keyed, name: str, wording: str) -> float:
        """Return the share of a domain's questions that are answered."""
        return mean([right[key] for key in self.questions[name][wording]])

    def _per_token(self, nats: Keyed, keys: Sequence[str]) -> float:
        return sum(nats[key] for key in keys) / max(1, sum(self.tokens[key] for key in keys))


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
