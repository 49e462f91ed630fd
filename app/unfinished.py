"""What a purge takes with it that nobody has learned yet, told before anybody is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.documents import several

if TYPE_CHECKING:
    from stores import Registry


def unfinished(registry: Registry, domain: str) -> str:
    """Return what of a domain's ingests goes on no more once it is purged; "" where nothing does.

    Uploads may hold what is purged, and so may a checkpoint: they are deleted.

    Args:
        registry: an open store.
        domain: any name.
    """
    jobs = [job for job in registry.jobs.listed() if job.domain == domain and job.request]
    num_ended = sum(not job.is_open and job.state != "done" for job in jobs)
    parts = ["the ingest that did not finish"] if registry.layout.has_checkpoint(domain) else []
    if num_ended:
        parts.append(f"{several(num_ended, 'job')} that did not end well, uploads and all")
    return " and ".join(parts)
