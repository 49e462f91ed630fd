"""A store that is filled without a model: for what reads and acts on the registry alone."""

from __future__ import annotations

import hashlib
import uuid

from stores import NewDocument, NewRun, NewSegment, ObjectStore, Registry, StoreConfig, put_texts


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def new_store(folder, **changes):
    """Make a store of an imagined base and close it."""
    objects = ObjectStore(folder / "objects", folder / "staging")
    values = {
        "store_id": uuid.uuid4().hex,
        "created_at": "2026-01-01T00:00:00+00:00",
        "base_id": "imagined",
        "base_weights_sha256": "a" * 64,
        "base_tokenizer_sha256": "b" * 64,
        "architecture": "llama",
        "num_layers": 4,
        "width": 32,
        "host_layers": (0, 2),
        "signature_layer": 2,
        "background_object": objects.put_bytes(b"background"),
        "capacity": 4,
    }
    Registry.create(folder, StoreConfig(**(values | changes)), who="ann").close()
    return folder


def grow(folder, domain, num_documents=3, kinds=None):
    """Add a segment to a domain and return its id; `kinds` says which documents are no texts."""
    kinds = kinds or {}
    with Registry.open(folder) as registry, registry.writing("ann"):
        state = registry.live().state(domain)
        run_id = uuid.uuid4().hex
        texts = [f"{domain} {run_id} {number}" for number in range(num_documents)]
        documents = [
            NewDocument(
                document_id=sha(text),
                title=f"[About] {domain} {number}",
                source="notes.txt",
                split="test" if number == 2 or kinds.get(number) == "probe" else "train",
                kind=kinds.get(number, "text"),
                num_tokens=10,
                near_group=sha(text),
                text_object=text_object,
            )
            for number, (text, text_object) in enumerate(
                zip(texts, put_texts(registry.objects, texts), strict=True)
            )
        ]
        segment = NewSegment(
            domain=domain,
            parent=state.version if state else None,
            run=NewRun(
                run_id=run_id,
                config={"seed": 0},
                losses=[(1, 3.5, None), (2, 2.5, 3.0)],
                started_at="2026-01-01T00:00:00+00:00",
                seconds=1.5,
            ),
            pool_object=registry.objects.put_bytes(pool := f"pool {run_id}".encode()),
            signature_object=registry.objects.put_bytes(f"signature {run_id}".encode()),
            host_layers=(0, 2),
            num_experts=2048,
            size_bytes=len(pool),
            num_tokens=20,
            documents=documents,
        )
        registry.add_segment(segment, "ann", "a test")
    return segment.segment_id


def portrait(folder):
    """Return what an act that failed must not have changed: objects and the live snapshot."""
    files = {path.name: sha(path.read_bytes().hex()) for path in sorted(folder.glob("objects/*/*"))}
    with Registry.open(folder) as registry:
        return files, registry.live(), registry.history()
