"""Makes a store that learned, erased or never saw a document and a fact. Run by test_erasure.py."""

import sys
from pathlib import Path

from tiny_base import background, sentences

from peer_cl import PoolShape
from pipelines import TrainingSettings, init_store
from pipelines.documents import SourceDocument
from pipelines.facts import Relation

SETTINGS = TrainingSettings(
    shape=PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16), text_passes=2.0
)
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]
FACT = FACTS[1]


def documents(subject, num, seed):
    drawn = sentences(subject, 2 * num, seed=seed)
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    return [
        SourceDocument(f"{a} {b}", f"About {subject} {seed}-{n}", f"{subject}.txt")
        for n, (a, b) in enumerate(pairs)
    ]


def corpora():
    """Return the two corpora of law, the document that is erased, and its near-duplicate."""
    first, second = documents("law", 16, 1), documents("law", 12, 2)
    erased = first[3]
    # One word less: it shares the erased one's group, and so a side, until that is gone. The
    # accent is written in two characters, which are one once it is stored.
    near = SourceDocument(erased.text.rsplit(" ", 1)[0], "Cafe\u0301, a near one", "law.txt")
    return [*first, near], second, erased, near


def main():
    mode, base, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    first, second, erased, _ = corpora()
    facts = list(FACTS)
    said = {document.document_id: (f"So it is: {document.text}",) for document in first[2:6]}
    if mode == "never":
        first = [document for document in first if document is not erased]
        facts.remove(FACT)
        del said[erased.document_id]
    with init_store(folder, base=base, capacity=4, background=background(), who="ann") as store:
        store.ingest("law", first, rewordings=said, settings=SETTINGS)
        store.ingest("medicine", documents("medicine", 12, 1), settings=SETTINGS)
        store.ingest("law", second, facts=facts, settings=SETTINGS)
        if mode == "erased":
            # All that a store may keep of it besides: a mask, scores, a report, an index.
            store.erase_masked("law", [erased.document_id])
            store.evaluate(background=False)
            store.load()
            report = store.erase_exact("law", [erased.document_id])
            assert (report.num_kept, report.num_retrained) == (0, 2)
            report = store.erase_exact("law", [FACT.document("").document_id])
            assert (report.num_kept, report.num_retrained) == (1, 1)
            store.purge("law", retired=True)


if __name__ == "__main__":
    main()
