"""Raw scores, keyed by text alone: one compressed file a method in docs/results/raw/.

From these files every figure of the stream is computed. Losses are nats, summed over a document's
tokens and keyed by the document; answers are 1 or 0, keyed by prompt and answer (see
`benchmarks.corpora.frozen`). base.json.zst also says which texts and questions there are. The
scores of the rivals and of the first version were measured at commit 7c582c8 and are kept; they
hold "rare_nats" too, losses without each domain's stock words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.results import RESULTS
from peer_cl.errors import StateError
from peer_cl.saving import replace_file

RAW = RESULTS / "raw"
DIGITS = 4

Keyed = dict[str, float]
"""Values by key."""
Piece = dict[str, Any]
"""What one part of a method's run found: "nats", "right" and what the part was."""


@dataclass
class MethodScores:
    """What one method found, piece by piece."""

    method: str
    pieces: dict[str, Piece] = field(default_factory=dict)
    """By "sSEED/NUMBER-DOMAIN", or "sSEED/mixture"."""
    others: dict[str, Any] = field(default_factory=dict)


class RawFolder:
    """The files of all methods.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path = RAW) -> None:
        self.folder = folder

    def read(self, method: str) -> MethodScores:
        """Return a method's scores; none where nothing was measured yet."""
        path = self.folder / f"{method}.json.zst"
        if not path.is_file():
            return MethodScores(method)
        content = json.loads(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
        return MethodScores(content.pop("method"), content.pop("pieces"), content)

    def write(self, scores: MethodScores) -> None:
        """Keep a method's scores: whole or not at all."""
        content = {"method": scores.method, **scores.others, "pieces": scores.pieces}
        packed = json.dumps(content, separators=(",", ":")).encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(
            self.folder / f"{scores.method}.json.zst",
            zstandard.ZstdCompressor(level=19).compress(packed),
        )

    def add(self, method: str, name: str, piece: Piece) -> None:
        """Keep one more piece of a method."""
        scores = self.read(method)
        scores.pieces[name] = piece
        self.write(scores)

    def base(self) -> BaseScores:
        """Return the bare model's scores, and which texts and questions there are.

        Raises:
            StateError: when the file is not there.
        """
        found = self.read("base").others
        if not found:
            raise StateError(f"no base.json.zst in {self.folder}: it is part of the repository")
        return BaseScores(found)


class BaseScores:
    """The bare model's scores.

    Args:
        content: of base.json.zst.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.texts: dict[str, list[str]] = content["texts"]
        """Keys by group: test/DOMAIN, blocks128/DOMAIN, prose/SOURCE, near-domain/SOURCE."""
        self.questions: dict[str, dict[str, list[str]]] = content["questions"]
        """Keys by domain and wording."""
        self.tokens: dict[str, int] = content["tokens"]
        self.nats: Keyed = content["nats"]
        self.right: dict[str, int] = content["right"]

    @property
    def names(self) -> tuple[str, ...]:
        """The domains in the order in which they are learned."""
        return tuple(self.questions)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of every group of a kind: test, blocks128, prose, near-domain."""
        return [k for group, ks in self.texts.items() if group.startswith(f"{kind}/") for k in ks]

    def loss(self, nats: Keyed, name: str) -> float:
        """Return the loss on a domain's unseen documents, nats a token."""
        return per_token(nats, self.texts[f"test/{name}"], self.tokens)

    def added(self, nats: Keyed, kind: str) -> float:
        """Return the loss on a kind's texts above the base's, nats a token; positive = worse."""
        keys = self.keys(kind)
        return per_token(nats, keys, self.tokens) - per_token(self.nats, keys, self.tokens)

    def recall(self, right: Mapping[str, int], name: str, wording: str) -> float:
        """Return the share of a domain's questions that are answered."""
        return mean([right[key] for key in self.questions[name][wording]])


def per_token(nats: Keyed, keys: Iterable[str], tokens: Mapping[str, int]) -> float:
    """Return the loss of some texts, nats a token.

    Example:
        >>> per_token({"a": 6.0, "b": 2.0}, ["a", "b"], {"a": 3, "b": 1})
        2.0
    """
    chosen = list(keys)
    return sum(nats[key] for key in chosen) / max(1, sum(tokens[key] for key in chosen))


def mean(values: Sequence[float]) -> float:
    """Return the mean.

    Example:
        >>> mean([1.0, 2.0])
        1.5
    """
    return sum(values) / len(values)
