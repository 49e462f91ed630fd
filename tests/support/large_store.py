"""A large store, as `benchmarks.large_store` fills it, and scores of its documents."""

from __future__ import annotations

import hashlib

import numpy as np

from benchmarks.large_store import fill_large_store
from stores import NewScore, Registry

__all__ = ["fill_large_store", "put_document_scores"]


def put_document_scores(folder, domain):
    """Give held-out documents of a domain per-token scores: its own version alone knows them."""
    with Registry.open(folder) as registry:
        versions = {state.version: -4.0 for state in registry.live().domains}
        levels = {**versions, "base": -4.0, registry.live().state(domain).version: -2.8}
        found = registry.documents(domain, split="test")
        registry.put_scores(
            [
                NewScore(
                    subject=subject,
                    document_key=hashlib.sha256(f"{document.document_id}".encode()).hexdigest(),
                    values=np.full(document.num_tokens, level, "<f8").tobytes(),
                    num_tokens=document.num_tokens,
                    document_id=document.document_id,
                )
                for document in found
                for subject, level in levels.items()
            ]
        )
