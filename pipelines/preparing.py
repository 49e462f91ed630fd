"""What a new segment is to learn: a corpus on a domain's chain, divided and tokenised.

An ingest and an exact erasure prepare alike, so that a domain that is retrained without a document
becomes the domain that never saw it. What a segment depends on comes in here, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from peer_cl.bases import Base
from peer_cl.pool import Segment
from peer_cl.signature import Signature
from pipelines.batches import Row, pieces, tokenise
from pipelines.documents import SAID, SourceDocument, normalised_text
from pipelines.facts import Fact, joined_facts
from pipelines.left_out import LeftOut, left_out
from pipelines.loading import load_chain
from pipelines.probes import FACT_SOURCE
from pipelines.rewordings import Rewordings, kept_rewordings
from pipelines.splits import (
    HOLD_OUT_PERCENT,
    Split,
    Splits,
    held_out_ids,
    is_learned_anew,
    percentages,
    split_documents,
)
from stores import Document, Registry
from stores import Segment as SegmentRow


@dataclass(frozen=True)
class Chain:
    """What a new segment of a domain grows on."""

    domain: str
    parent: str | None
    """The version; None: nothing."""
    segments: tuple[Segment, ...] = ()
    """Loaded, with the chain's masks on them."""
    signature: Signature | None = None
    document_ids: frozenset[str] = frozenset()
    """Of all documents that the chain holds."""
    known: tuple[tuple[SourceDocument, Split], ...] = ()
    """Its texts and facts and their sides, sections named apart by ingest; empty in a store that
    keeps no texts."""
    held_out_ids: frozenset[str] = frozenset()
    """Of its documents that no segment was trained on."""

    def holding(self, learned: Learned) -> Chain:
        """Return the chain with a corpus known: what the next corpus is divided by."""
        said = [d for d in learned.documents if d.kind in SAID]
        # Grows with every ingest that trains, one that learns what was held out included.
        ingest = str(len(self.known))
        known = tuple((_of(ingest, d), cast(Split, learned.splits[d.document_id])) for d in said)
        ids = frozenset(d.document_id for d in learned.documents)
        trained = frozenset(d.document_id for d in learned.of("train"))
        held_out = frozenset(d.document_id for d in said if d.kind == "text") - trained
        return replace(
            self,
            document_ids=self.document_ids | ids,
            known=_as_trained(self.known + known, trained),
            held_out_ids=(self.held_out_ids | held_out) - trained,
        )

    def under(self, mask_id: str) -> Chain:
        """Return the chain with a mask at its end, which is laid over its segments already."""
        return replace(self, parent=mask_id)


def read_chain(registry: Registry, domain: str, rows: Sequence[SegmentRow], base: Base) -> Chain:
    """Return a domain's chain, loaded and verified.

    Args:
        registry: an open store.
        domain: the domain's name.
        rows: the chain's segments and masks, oldest first; none: the domain begins.
        base: the store's.

    Raises:
        DamageError: when an object is damaged or missing.
    """
    if not rows:
        return Chain(domain, None)
    return replace(
        read_texts(registry, domain, rows[-1].id),
        segments=tuple(load_chain(registry, domain, rows, base.identity)),
        signature=Signature.from_bytes(registry.objects.read(rows[-1].signature_object)),
    )


def read_texts(registry: Registry, domain: str, version: str | None) -> Chain:
    """Return what a domain's chain holds, without its weights: enough to divide a corpus by.

    Args:
        registry: an open store.
        domain: the domain's name.
        version: its full id; None: the domain begins.

    Raises:
        DamageError: when a text is damaged or missing.
    """
    if version is None:
        return Chain(domain, None)
    documents = registry.documents(domain, version)
    kept = [d for d in documents if d.kind in SAID and d.text_object is not None]
    known = [(_of(d.segment_id, stored_document(registry, d)), cast(Split, d.split)) for d in kept]
    trained = frozenset(d.document_id for d in documents if d.split == "train")
    return Chain(
        domain=domain,
        parent=version,
        document_ids=frozenset(d.document_id for d in documents),
        known=_as_trained(known, trained),
        held_out_ids=held_out_ids(documents),
    )


def _as_trained(
    known: Iterable[tuple[SourceDocument, Split]], trained: frozenset[str]
) -> tuple[tuple[SourceDocument, Split], ...]:
    """Return known documents with the side that they have now: some were held out, and then given
    again to be learned."""
    return tuple((d, "train" if d.document_id in trained else side) for d, side in known)


def _of(ingest: str, document: SourceDocument) -> SourceDocument:
    """Return a known document as a section within its own ingest alone.

    Sections are told by the names of files, and the next corpus may have another file of that name:
    what it has in common with earlier ones is told by the texts.
    """
    if document.section_of is None:
        return document
    return replace(document, section_of=f"{ingest} {document.section_of}")


def stored_document(registry: Registry, document: Document) -> SourceDocument:
    """Return a kept document as it once came.

    Raises:
        UnsupportedError: when this store keeps no texts.
    """
    return SourceDocument(
        text=registry.document_text(document),
        title=document.title,
        source=document.source,
        kind=cast(Any, document.kind),
        section_of=document.section_of,
    )


@dataclass(frozen=True)
class Learned:
    """A corpus, ready to be trained on."""

    documents: list[SourceDocument]
    splits: dict[str, str]
    near_groups: dict[str, str]
    ids: dict[str, list[int]]
    num_duplicates: int
    """Documents and facts left out."""
    num_twice: int
    """Of these, those that the corpus itself holds twice."""
    num_held_out: int
    """Of these, those that the chain holds out: it has them, and was never trained on them."""
    num_other_questions: int
    """Facts that the chain knows and that are asked with other questions here: those stay away."""
    facts: dict[str, Fact]
    """What fact documents say, by document id."""
    rewordings: Rewordings = field(default_factory=dict)
    """Texts in other words, by the id of the document."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """What the chain has, and might not have learned without another document."""

    def of(self, split: str, kinds: Iterable[str] = SAID) -> list[SourceDocument]:
        """Return the documents of a split."""
        return [
            d for d in self.documents if self.splits[d.document_id] == split and d.kind in kinds
        ]

    def rows(self, split: str, max_tokens: int, end_id: int | None) -> list[Row]:
        """Return a split as rows; with an end token where one is given, so that texts end."""
        rows = []
        for document in self.of(split):
            ids = self.ids[document.document_id]
            ids = [*ids, end_id] if end_id is not None else ids
            for piece in pieces(ids, max_tokens):
                rows.append(Row(document.document_id, document.kind, piece))
        return rows


def prepare(
    chain: Chain,
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    base: Base,
    rewordings: Rewordings | None = None,
    hold_out_percent: float = HOLD_OUT_PERCENT,
) -> Learned:
    """Leave out what the chain holds, divide the rest, and tokenise it.

    Texts are normalised first, as they are stored: what is read back must give the same bits. What
    the chain holds out stays so, but for statements of facts, which are always trained on, and
    where nothing is to be held out.

    Args:
        chain: what the segment will grow on.
        documents: the corpus.
        facts: learned as further documents.
        base: the store's.
        rewordings: of documents of the corpus; those of others are left out.
        hold_out_percent: about how many of a hundred documents are held out.
    """
    divided = divide(chain, documents, facts, hold_out_percent)
    fresh, kept, splits = divided.fresh, divided.kept, divided.splits
    reworded = fresh_rewordings(fresh, rewordings)
    # They are in no group: what is near to a document's rewording is no reason to hold it out.
    beside = [kept_rewordings(fresh[key], said) for key, said in reworded.items()]
    own_ids = {d.document_id: d.document_id for d in beside}
    kept += beside
    ids = tokenise(base.tokenizer, [document.text for document in kept])
    return Learned(
        documents=kept,
        splits={**splits.split, **dict.fromkeys(own_ids, "test")},
        near_groups={**splits.near_group, **own_ids},
        ids={d.document_id: row for d, row in zip(kept, ids, strict=True)},
        num_duplicates=len(documents) + len(facts) - len(fresh),
        num_twice=divided.num_twice,
        num_held_out=divided.num_held_out,
        num_other_questions=divided.num_other_questions,
        facts=divided.facts,
        rewordings=reworded,
        left_out=divided.left_out,
    )


def fresh_rewordings(
    fresh: Mapping[str, SourceDocument], rewordings: Rewordings | None
) -> dict[str, tuple[str, ...]]:
    """Return the rewordings of new texts, by id and each once; those of others are left out."""
    return {
        key: tuple(dict.fromkeys(said))
        for key, document in fresh.items()
        if document.kind == "text" and (said := (rewordings or {}).get(key))
    }


@dataclass(frozen=True)
class Divided:
    """What of a corpus is new to a domain's chain, and its sides."""

    fresh: dict[str, SourceDocument]
    """Documents and facts that an ingest looks at, by id; texts are normalised."""
    kept: list[SourceDocument]
    """These, and the questions about its facts."""
    facts: dict[str, Fact]
    """The facts among them, by id; lines of one statement are one."""
    splits: Splits
    num_twice: int
    """Documents and facts that the corpus itself holds twice."""
    num_held_out: int
    """Documents that the chain holds out, and that stay so."""
    num_other_questions: int
    """Facts that the chain knows, asked with other questions than it keeps; it keeps none of one
    that it learned as a plain text."""
    left_out: LeftOut
    """What an erasure from the chain has to know of."""


def divide(
    chain: Chain,
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    hold_out_percent: float = HOLD_OUT_PERCENT,
) -> Divided:
    """Leave out what the chain holds, and divide the rest into what is learned and held out.

    Args:
        chain: what a segment would grow on; its weights are not needed.
        documents: the corpus.
        facts: learned as further documents.
        hold_out_percent: about how many of a hundred documents are held out.
    """
    joined = joined_facts(facts)
    fact_documents = [fact.document(f"{chain.domain} facts") for fact in joined]
    fact_ids = {document.document_id for document in fact_documents}
    # A text that is a fact's statement is that fact: as a text it might be held out, and yet read.
    others = [document for document in documents if document.document_id not in fact_ids]
    own_texts = {document.document_id for document in documents} | fact_ids
    fresh: dict[str, SourceDocument] = {}
    for document in [*others, *fact_documents]:
        if is_learned_anew(document, chain.document_ids, chain.held_out_ids, hold_out_percent):
            text = normalised_text(document.text)
            fresh.setdefault(document.document_id, replace(document, text=text))
    probes = [probe(f) for f in joined if f.document("").document_id in fresh]
    kept = [*fresh.values(), *probes]
    splits = _divided(chain, kept, hold_out_percent)
    # Beside others that are held out still, one that is given again stays where it was.
    stays = {i for i in chain.held_out_ids & fresh.keys() if splits.split[i] != "train"}
    fresh = {key: document for key, document in fresh.items() if key not in stays}
    kept = [document for document in kept if document.document_id not in stays]
    texts = {d.document_id for d, _ in chain.known if d.kind == "text"}
    return Divided(
        fresh=fresh,
        kept=kept,
        facts={key: f for f in joined if (key := f.document("").document_id) in fresh},
        splits=splits,
        num_twice=len(documents) + len(facts) - len(own_texts),
        num_held_out=len((chain.held_out_ids & own_texts) - fresh.keys()),
        num_other_questions=len(_asked_else(chain, joined)),
        left_out=left_out(others, joined, fresh, texts, chain.held_out_ids, hold_out_percent),
    )


def _asked_else(chain: Chain, facts: Sequence[Fact]) -> set[str]:
    """Return the ids of facts that a chain knows and keeps other questions of.

    A fact that was held out as a text has none yet, and gets these.
    """
    known = chain.document_ids - chain.held_out_ids
    return {
        key
        for fact in facts
        if (key := fact.document("").document_id) in known
        and probe(fact).document_id not in chain.document_ids
    }


def has_test(chain: Chain, new: Collection[SourceDocument], sides: Mapping[str, str]) -> bool:
    """Return whether a domain has a text to measure on, once a corpus is in it.

    Args:
        chain: what the corpus comes to.
        new: its texts that are held out to test with.
        sides: of all documents of the corpus, by id.
    """
    held = (d.document_id for d, side in chain.known if side == "test")
    return bool(new) or any(sides.get(key) != "train" for key in held)


def _divided(chain: Chain, kept: Sequence[SourceDocument], hold_out_percent: float) -> Splits:
    """Divide documents; one that the chain holds out and that is to be learned now does not hold
    out others."""
    test, validation = percentages(hold_out_percent)
    again = chain.held_out_ids & {document.document_id for document in kept}
    known = _as_trained(chain.known, again) if kept else ()
    return split_documents(kept, known=known, test_percent=test, validation_percent=validation)


def probe(fact: Fact) -> SourceDocument:
    """Return the document that keeps a fact's questions; it is never learned."""
    text = json.dumps(asdict(fact), sort_keys=True)
    return SourceDocument(text, fact.subject, FACT_SOURCE, "probe")
