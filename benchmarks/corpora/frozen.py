"""What comparisons rest on: each document's split and the facts that are asked, in committed files.

benchmarks/data holds keys only, no text: texts come out of their packages at run time. The files
were made at commit 7c582c8, so that no later splitter changes a figure. A key is the beginning of
a sha256: of a document's normalised text, or of a prompt.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from peer_cl.errors import CorpusError
from pipelines.corpora import SourceDocument, Split
from pipelines.facts import Fact

FOLDER = Path(__file__).resolve().parent.parent / "data"
KEY_DIGITS = 16
ALL_TOKENS = 10**9
"""Of a demo corpus, which is cut to so many tokens: what is frozen decides, not the size."""

Candidates = tuple[list[SourceDocument], list[Fact]]
"""All documents and facts that a package gives; the frozen ones are chosen among them."""


@dataclass(frozen=True)
class FrozenDomain:
    """A domain's documents by split, its scored test documents, and its facts in asking order."""

    splits: dict[str, Split]
    """By document key, in the order in which documents are learned."""
    scored: tuple[str, ...]
    facts: tuple[str, ...]

    def choose(self, candidates: Candidates, name: str) -> Candidates:
        """Return the frozen documents, with their splits, and the frozen facts."""
        documents = {
            key: replace(document, split=self.splits[key])
            for document in candidates[0]
            if (key := document_key(document)) in self.splits
        }
        facts = {fact.document_id[:KEY_DIGITS]: fact for fact in candidates[1]}
        missing = sorted((self.splits.keys() - documents) | (set(self.facts) - facts.keys()))
        if missing:
            raise CorpusError(
                f"{name}: {len(missing)} of its frozen documents and facts are not in its package, "
                f"such as {missing[0]}: benchmarks/corpora must give the texts of 7c582c8"
            )
        return [documents[key] for key in self.splits], [facts[key] for key in self.facts]


@functools.cache
def frozen(name: str) -> FrozenDomain:
    """Return a domain's frozen splits and facts."""
    kept = json.loads((FOLDER / "stream.json").read_text(encoding="utf-8"))[name]
    return FrozenDomain(kept["documents"], tuple(kept.get("scored", ())), tuple(kept["facts"]))


def document_key(document: SourceDocument) -> str:
    """Return the beginning of a document's id."""
    return document.document_id[:KEY_DIGITS]


def text_key(text: str) -> str:
    """Return the key of a prompt or of decoded tokens."""
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def question_key(prompt: str, answer: str) -> str:
    """Return the key of a prompt with its answer."""
    return text_key(f"{prompt}\n{answer}")
