"""A quick look at the objects that the live snapshot needs: they are there, with the right size.

`doctor` reads every byte of the store, which takes minutes; this asks the file system for sizes
alone, so that it can be done whenever somebody looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from stores.batches import batches
from stores.chains import read_chains
from stores.config import StoreConfig
from stores.objects import ObjectStore
from stores.queries import Finding, Segment
from stores.references import KIND_IN_WORDS
from stores.schema import SegmentDocumentRow
from stores.snapshots import live_snapshot

_COPY = "restore it from a copy"


def glance(session: Session, objects: ObjectStore, config: StoreConfig) -> tuple[Finding, ...]:
    """Return what is missing, or has another size, of what the live snapshot needs."""
    live = live_snapshot(session)
    chains = read_chains(session, [state.version for state in live.domains])
    segments = [segment for chain in chains.values() for segment in chain]
    needed: dict[str, tuple[str, int | None]] = {
        config.background_object: ("the background statistics", None)
    }
    if config.ordinary_object is not None:
        needed[config.ordinary_object] = ("the ordinary text", None)
    for segment in segments:
        needed |= _objects_of(segment)
    texts = _texts(session, segments)
    sizes = objects.sizes([*needed, *texts])
    return (*_look(needed, sizes), *_look_at_texts(texts, sizes))


def _objects_of(segment: Segment) -> dict[str, tuple[str, int | None]]:
    """Return a segment's objects: what each is, and its size where that is known."""
    name = f"{segment.domain} {segment.label}"
    pool = (f"the {KIND_IN_WORDS[segment.kind]} of {name}", segment.size_bytes)
    found = {
        segment.signature_object: (f"the signature of {name}", None),
        segment.pool_object: pool,
    }
    if segment.use_object is not None:
        found[segment.use_object] = (f"the rows' inputs of {name}", None)
    return found


def _texts(session: Session, segments: list[Segment]) -> dict[str, str]:
    """Return the live texts' objects with their domains."""
    domains = {segment.id: segment.domain for segment in segments}
    found: dict[str, str] = {}
    for some in batches(domains):
        rows = session.execute(
            select(SegmentDocumentRow.text_object, SegmentDocumentRow.segment_id).where(
                SegmentDocumentRow.segment_id.in_(some),
                SegmentDocumentRow.text_object.is_not(None),
            )
        )
        found |= {str(text): domains[segment_id] for text, segment_id in rows}
    return found


def _look(
    needed: Mapping[str, tuple[str, int | None]], sizes: Mapping[str, int]
) -> Iterator[Finding]:
    for object_id, (what, size_bytes) in needed.items():
        found = sizes.get(object_id)
        if found is None:
            told = f"{what} is missing (object {object_id})"
            yield Finding("object missing", "error", told, _COPY)
        elif found == 0 or (size_bytes is not None and found != size_bytes):
            told = f"{what} is damaged (object {object_id}): it has {found:,} bytes" + (
                "" if size_bytes is None else f", not {size_bytes:,}"
            )
            yield Finding("object damaged", "error", told, _COPY)


def _look_at_texts(texts: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[Finding]:
    """Texts are many: one finding a domain."""
    lost = Counter(domain for object_id, domain in texts.items() if not sizes.get(object_id))
    for domain, num in sorted(lost.items()):
        told = f"{num:,} of the texts of {domain} {'is' if num == 1 else 'are'} missing or empty"
        yield Finding("text missing", "error", told, _COPY)
