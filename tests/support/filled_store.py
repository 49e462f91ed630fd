"""A store that is filled without a model, for what reads and acts on the registry alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np

from stores import NewDocument, NewScore, NewSegment, Registry, StoreConfig

LOSSES = [(1, 3.5, None), (2, 2.5, 3.0)]
BACKGROUND = b"background"


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def new_config(**changes):
    """Return the config of a store over an invented base."""
    values = {
        "base_id": "invented",
        "base_weights_sha256": "a" * 64,
        "base_tokenizer_sha256": "b" * 64,
        "architecture": "llama",
        "num_layers": 4,
        "width": 32,
        "host_layers": (0, 2),
        "state_layer": 2,
        "capacity": 4,
    }
    return StoreConfig(**(values | changes))


def new_store(folder, **changes):
    """Make an empty store and return it, open."""
    return Registry.create(folder, new_config(**changes), BACKGROUND, "ann")


def new_segment(registry, domain, parent=None, texts=None, kinds=None, **changes):
    """Put the objects of a segment and return it, not yet added.

    Of its documents the third is held out, and so are questions.
    """
    kinds = kinds or {}
    tag = uuid.uuid4().hex
    texts = [f"{domain} {tag} {number}" for number in range(3)] if texts is None else texts
    stored = registry.objects.put_texts(texts)
    documents = [
        NewDocument(
            document_id=sha(text),
            title=f"[About] {domain} {number}",
            source=f"{domain}.txt",
            split="test" if number == 2 or kinds.get(number) == "question" else "train",
            kind=kinds.get(number, "text"),
            num_tokens=10 + number,
            near_group=sha(text),
            text_object=text_object,
            base_nats=3.0,
            nats=2.0,
        )
        for number, (text, text_object) in enumerate(zip(texts, stored, strict=True))
    ]
    objects = {
        name: registry.objects.put_bytes(f"{name} {tag}".encode())
        for name in ("shared.0", "use.0", "key")
        if "objects" not in changes
    }
    values = {
        "domain": domain,
        "objects": objects,
        "parent": parent,
        "host_layers": (0, 2),
        "num_experts": 2048,
        "size_bytes": 37,
        "num_tokens": 20,
        "documents": documents,
        "config": {"seed": 0},
        "losses": LOSSES,
        "seconds": 1.5,
    }
    return NewSegment(**(values | changes))


def facts_alone(registry):
    """Return the fields of a segment that learned facts and no text."""
    own = registry.objects.put_bytes(f"own {uuid.uuid4().hex}".encode())
    nothing = {"host_layers": (), "num_experts": 0}
    return {"objects": {"facts.0": own}, "kinds": {0: "fact", 1: "fact"}, **nothing}


def grow(registry, domain, message="a test", **changes):
    """Add a segment on top of the domain's live version and return the new snapshot."""
    state = registry.queries.live().state(domain)
    with registry.writing("ann"):
        segment = new_segment(registry, domain, state.version if state else None, **changes)
        return registry.add_segment(segment, "ann", message)


def score(registry, domain, subjects, nats=3.0, num_tokens=4):
    """Store scores of the held-out documents of a domain under some subjects."""
    held_out = registry.queries.documents(domain, split="test")
    registry.put_scores(
        [
            NewScore(
                subject=subject,
                document_key=sha(f"tokens of {document.document_id}"),
                log_probs=np.full(num_tokens, -nats),
                document_id=document.document_id,
                is_found=None if subject == "base" else True,
                is_found_by_half=None if subject == "base" else False,
            )
            for document in held_out
            for subject in subjects
        ]
    )


def filled_store(folder, **changes):
    """Make a store with two domains: law (two versions, a fact, a question) and medicine."""
    registry = new_store(folder, **changes)
    grow(registry, "law", kinds={1: "fact"})
    grow(registry, "medicine")
    grow(registry, "law", kinds={1: "question"})
    return registry


def portrait(registry):
    """Return what an act that failed must not have changed."""
    return sorted(registry.objects.sizes()), registry.queries.live(), registry.queries.events()


def start(code, registry):
    """Start a process that runs some code with the store's folder as its argument."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(registry.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
