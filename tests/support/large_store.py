"""A large store, as `benchmarks.large_store` fills it, and scores of its documents."""

from __future__ import annotations

import hashlib

import numpy as np

from benchmarks.large_store import fill_large_store
from stores import NewScore, Registry

__all__ = ["fill_large_store", "put_document_scores"]


def put_document_scores(folder, domain):
    """Give a domain's held-out documents per-token scores under the base and the live version."""
    with Registry.open(folder) as registry:
        version = registry.live().state(domain).version
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
                for subject, level in (("base", -4.0), (version, -2.8))
            ]
        )
