"""How long it takes until a document is gone, and until shared experts know nothing of it either.

On a copy of the store, which is erased from and thrown away.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.provenance import drawn
from benchmarks.results import Figure, store_options
from pipelines import open_store
from pipelines.store import Store

NUM_ERASED = 5
"""Documents of each kind, one after another."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the seconds of erasures from a store (`--store FOLDER`, `--domain NAME`)."""
    options = store_options("erase", arguments)
    with tempfile.TemporaryDirectory(dir=Path(options.store).parent) as folder:
        copy = Path(folder) / "store"
        shutil.copytree(options.store, copy)
        with open_store(copy) as store:
            live = store.registry.queries.live().domains
            figures: list[Figure] = []
            for domain in options.domain or [state.domain for state in live]:
                figures += _erased(store, domain)
    return figures


def _erased(store: Store, domain: str) -> Iterator[Figure]:
    queries, is_pending = store.registry.queries, False
    for kind in ("fact", "text"):
        learned = queries.documents(domain, split="train", kind=kind)
        chosen = drawn(learned, NUM_ERASED)
        if 0 < len(chosen) < len(learned):
            seconds = [store.erase(domain, one.document_id).seconds for one in chosen]
            is_pending = kind == "text"
            what = f"seconds until a {kind} is gone, {domain}, median of {len(chosen)}"
            yield Figure(what, median(seconds), most=0.1)
    if is_pending:
        began = time.monotonic()
        store.erase(domain, (), wait=True)
        what = f"seconds until shared experts are trained anew, {domain}"
        yield Figure(what, time.monotonic() - began, most=120.0)
