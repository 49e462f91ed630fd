"""Small domains of a stream, for the tiny base."""

from __future__ import annotations

from tiny_base import background, make_tiny_base, sentences

from benchmarks.stream.domains import StreamDomain
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.workshop import Workshop
from pipelines import TrainingSettings
from pipelines.batches import tokenise
from pipelines.documents import SourceDocument
from pipelines.facts import Relation

SETTINGS = TrainingSettings(
    text_passes=8.0, tokens_per_step=96, fact_passes=4.0, least_steps=1, precision="fp32"
)
RENT = Relation("rent", "The rent of {subject} is", ("What does {subject} owe? Answer:",))


def stream_domain(subject, num=30):
    """Return a domain of one sentence a document, and four facts."""
    texts = sentences(subject, num, seed=3)
    documents = tuple(SourceDocument(text, f"{subject} {n}", "t") for n, text in enumerate(texts))
    facts = tuple(RENT.fact(f"house {n}", f"{n} pounds") for n in range(4))
    return StreamDomain(subject, documents, facts, "")


def foreign(tokenizer, names, most):
    """Return text of no domain, as `Workshop.foreign` does."""
    texts = sentences("prose", most, seed=11)
    return {"prose/rain": [tuple(ids) for ids in tokenise(tokenizer, texts)]}


def tiny_workshop(folder, **changes):
    """Return a stream of law and minerals on a tiny base, all of it in a folder."""
    made = {
        "raw": RawFolder(folder / "raw"),
        "work": folder / "work",
        "names": ("law", "minerals"),
        "base_id": str(make_tiny_base(folder / "base")),
        "load": stream_domain,
        "foreign": foreign,
        "background": background(),
        "settings": SETTINGS,
        "most_foreign": 6,
    }
    return Workshop(**{**made, **changes})
