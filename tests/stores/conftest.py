"""A small real store, and segments to put into it."""

import hashlib
import uuid
from types import SimpleNamespace

import pytest

from stores import (
    NewDocument,
    NewRun,
    NewSegment,
    ObjectStore,
    Registry,
    StoreConfig,
    StoreLayout,
    put_texts,
)
from stores.database import sqlite_database
from stores.schema import JobRow


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def new_config(**changes):
    values = {
        "store_id": uuid.uuid4().hex,
        "created_at": "2026-01-01T00:00:00+00:00",
        "base_id": "tiny/llama",
        "base_weights_sha256": "a" * 64,
        "base_tokenizer_sha256": "b" * 64,
        "architecture": "llama",
        "num_layers": 30,
        "width": 576,
        "host_layers": (3, 9),
        "signature_layer": 20,
        "background_object": sha("background"),
        "capacity": 4,
    }
    return StoreConfig(**(values | changes))


def new_store(folder, **changes):
    place = StoreLayout(folder).objects_at(changes.get("objects_url"))
    objects = ObjectStore(place, folder / "staging")
    background = objects.put_bytes(b"background")
    return Registry.create(folder, new_config(background_object=background, **changes), who="ann")


def new_segment(registry, domain, parent=None, texts=None, salt="", **changes):
    """Put the objects of a segment and return it, not yet added."""
    texts = [f"{domain} {number} {salt}" for number in range(3)] if texts is None else texts
    objects = put_texts(registry.objects, texts)
    documents = [
        NewDocument(
            document_id=sha(text),
            title=f"About {text}",
            source=f"{domain}.txt",
            split=("train", "train", "test")[number % 3],
            num_tokens=len(text),
            near_group=sha(text),
            text_object=text_object,
            kind="fact" if number == 1 else "text",
        )
        for number, (text, text_object) in enumerate(zip(texts, objects, strict=True))
    ]
    run_id = uuid.uuid4().hex
    pool = registry.objects.put_bytes(f"pool {domain} {run_id}".encode())
    values = {
        "domain": domain,
        "parent": parent,
        "run": NewRun(
            run_id=run_id,
            config={"seed": 1},
            losses=[(1, 3.5, None), (2, 3.25, 3.0)],
            started_at="2026-01-01T00:00:00+00:00",
            seconds=1.5,
        ),
        "pool_object": pool,
        "signature_object": registry.objects.put_bytes(f"signature {run_id}".encode()),
        "host_layers": (3, 9),
        "num_experts": 2048,
        "size_bytes": 100,
        "num_tokens": 1000,
        "documents": documents,
    }
    return NewSegment(**(values | changes))


def new_mask(registry, domain, version, **changes):
    """Put the object of a mask over a version and return it, not yet added."""
    run_id = uuid.uuid4().hex
    values = {
        "kind": "mask",
        "domain": domain,
        "parent": version,
        "run": NewRun(
            run_id=run_id,
            config={"erases": [], "rows": 1},
            losses=[],
            started_at="2026-01-01T00:00:00+00:00",
            seconds=0.0,
        ),
        "pool_object": registry.objects.put_bytes(f"mask {run_id}".encode()),
        "signature_object": registry.objects.put_bytes(f"signature {run_id}".encode()),
        "host_layers": (3,),
        "num_experts": 0,
        "size_bytes": 10,
        "num_tokens": 0,
        "documents": [],
    }
    return NewSegment(**(values | changes))


def grow(registry, domain, **changes):
    """Add a segment on top of the domain's live version and return the snapshot."""
    state = registry.live().state(domain)
    segment = new_segment(registry, domain, state.version if state else None, **changes)
    with registry.writing("ann"):
        return registry.add_segment(segment, "ann", "a test")


@pytest.fixture(scope="session")
def make():
    """The functions above, for tests that need more than one store."""
    return SimpleNamespace(
        sha=sha, config=new_config, store=new_store, segment=new_segment, mask=new_mask, grow=grow
    )


@pytest.fixture
def registry(tmp_path):
    with new_store(tmp_path / "knowledge") as opened:
        yield opened


@pytest.fixture
def change(registry):
    """Change a job's row behind everybody's back."""

    def write(job, **values):
        database = sqlite_database(registry.layout.database)
        with database.writing() as session:
            row = session.get(JobRow, job.id)
            for name, value in values.items():
                setattr(row, name, value)
        database.close()

    return write
