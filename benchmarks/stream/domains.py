"""What a domain of the stream is: documents, facts, and questions in words never trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.documents import SourceDocument
from pipelines.facts import Fact
from pipelines.rewordings import Rewordings


@dataclass(frozen=True)
class Asked:
    """What a person asked about a document, which says the answer in words of its own."""

    document_id: str
    turn: int
    """Which of the document's questions it is, from 0."""
    prompt: str
    answer: str


@dataclass(frozen=True)
class StreamDomain:
    """One domain of the stream.

    `documents` are texts only, not yet divided into training and test. `facts` are trained on in
    one wording; their `reworded_prompts` are those of benchmarks/questions, which no pipeline and
    no augmentation may read.
    """

    name: str
    documents: tuple[SourceDocument, ...]
    facts: tuple[Fact, ...]
    notice: str
    """Whose data this is."""
    asked: tuple[Asked, ...] = ()
    """People's questions on the documents; never trained on."""
    rewordings: Rewordings = field(default_factory=dict)
    """The documents in other words; learned with those that are trained on."""
