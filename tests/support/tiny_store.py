"""A tiny trained store: a random base, and domains that learned a few sentences each."""

from __future__ import annotations

import shutil

import torch
from tiny_base import background, make_tiny_base, sentences, write_corpus

from peer_cl.layer import PoolShape
from pipelines.batches import tokenise
from pipelines.corpora import SourceDocument
from pipelines.encoder import MINILM
from pipelines.facts import Relation
from pipelines.init import init_store
from pipelines.settings import TrainingSettings

SHAPE = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)
SETTINGS = TrainingSettings(
    shape=SHAPE,
    hold_out_percent=23.0,
    num_shards=2,
    text_passes=3.0,
    min_steps=1,
    study_questions=0,
    precision="fp32",
)
"""In fp32, so that every processor gives the same bits."""
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = tuple(
    OWNER.fact(f"house {number}", word) for number, word in enumerate(("rent", "court", "tenant"))
)


def make_tiny_store(folder, domains=("law", "medicine"), facts=None):
    """Make a base and a store that learned these domains, and return the store's folder.

    Args:
        folder: gets `base` and `knowledge`.
        domains: subjects to learn, in this order.
        facts: by domain.
    """
    base = make_tiny_base(folder / "base")
    place = folder / "knowledge"
    with init_store(
        place,
        base=str(base),
        capacity=4,
        encoder=MINILM,
        background=background(),
        author="ann",
    ) as store:
        for domain in domains:
            corpus = write_corpus(folder / f"{domain}.jsonl", domain)
            store.ingest(domain, corpus, facts=(facts or {}).get(domain, ()), settings=SETTINGS)
    return place


def copy_store(place, folder):
    """Return a copy of a store with a base of its own, so that both may be damaged."""
    shutil.copytree(place.parent / "base", folder / "base")
    shutil.copytree(place, folder / "knowledge")
    toml = folder / "knowledge" / "store.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(
        text.replace(str(place.parent / "base"), str(folder / "base")), encoding="utf-8"
    )
    return folder / "knowledge"


def documents(subject, num, seed):
    """Return documents of a subject, two sentences each."""
    drawn = sentences(subject, 2 * num, seed=seed)
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    return [
        SourceDocument(f"{a} {b}", f"About {subject} {seed}-{number}", f"{subject}.txt")
        for number, (a, b) in enumerate(pairs)
    ]


@torch.no_grad()
def store_logits(store, text, snapshot_id=None):
    """Return a store's logits of a text with all pools active, of a snapshot or the live one."""
    model, tokenizer = store.load(snapshot_id)
    return model(torch.tensor(tokenise(tokenizer, [text])), routing="all").logits
