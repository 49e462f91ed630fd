"""Answers of the registry that several pages ask for, kept until something is done to the store.

They are kept by the store's last event, not by its live snapshot alone: a purge leaves the snapshot
as it is, and what it deleted must not be shown from a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.dashboard.frames.acts import Mask, read_masks
from app.dashboard.page import StorePlace
from pipelines.holders import document_rows as document_rows_of

if TYPE_CHECKING:
    from app.dashboard.page import View
    from pipelines.holders import DocumentRow
    from pipelines.store import Store
    from stores import Document, DomainDetail, DomainState, Event, Finding, Snapshot
    from stores.queries import Evaluation

Stamp = tuple[StorePlace, int]
"""What tells a store from every other, and the number of the last thing that was done to it."""


def stamp(seen: View) -> Stamp:
    """Return what answers about the whole store are cached under."""
    return seen.place, seen.store.registry.history(1)[0].id


def snapshots(seen: View) -> tuple[Snapshot, ...]:
    """Return every snapshot, oldest first."""
    return _snapshots(stamp(seen), seen.store)


def last_state(seen: View, domain: str) -> DomainState | None:
    """Return how a domain is in the store, or how it last was in it; None where it never was."""
    found = (snapshot.state(domain) for snapshot in reversed(snapshots(seen)))
    return next((state for state in found if state is not None), None)


def events(seen: View, domain: str | None = None) -> tuple[Event, ...]:
    """Return every event (of one domain), the newest first."""
    return _events(stamp(seen), domain, seen.store)


def masks(seen: View) -> dict[str, Mask]:
    """Return which versions masked older rows; they tell an erasure by a mask from an exact one."""
    return _masks(stamp(seen), seen.store)


def evaluations(seen: View) -> tuple[Evaluation, ...]:
    """Return the reports of the live snapshot and of all before it, the oldest first."""
    at = seen.store.registry.evaluated_at(seen.live.id)
    return _evaluations(stamp(seen), at, seen.live.id, seen.store)


def domain_detail(seen: View, domain: str) -> DomainDetail:
    """Return everything about a domain but its documents."""
    return _detail(stamp(seen), domain, seen.store)


def domain_documents(seen: View, domain: str, version: str) -> tuple[Document, ...]:
    """Return the documents of a domain at a version (a full id)."""
    return _documents(stamp(seen), domain, version, seen.store)


def document_rows(
    seen: View, document_id: str, segment_ids: tuple[str, ...]
) -> tuple[DocumentRow, ...]:
    """Return the rows that a document uses in some segments, the most specific first."""
    return _document_rows(stamp(seen), document_id, segment_ids, seen.store)


def glance(seen: View) -> tuple[Finding, ...]:
    """Return what a quick look finds missing; looked at again after half a minute."""
    return _glance(stamp(seen), seen.store)


def purged_versions(seen: View) -> frozenset[str]:
    """Return the ids of the versions whose bytes are gone."""
    return _purged_versions(stamp(seen), seen.store)


@st.cache_data(show_spinner=False, max_entries=4)
def _snapshots(key: Stamp, _store: Store) -> tuple[Snapshot, ...]:
    return _store.registry.snapshots()


@st.cache_data(show_spinner=False, max_entries=16)
def _events(key: Stamp, domain: str | None, _store: Store) -> tuple[Event, ...]:
    return _store.registry.history(domain=domain)


@st.cache_data(show_spinner=False, max_entries=4)
def _evaluations(
    key: Stamp, evaluated_at: str | None, snapshot_id: int, _store: Store
) -> tuple[Evaluation, ...]:
    return _store.registry.evaluations(snapshot_id)


@st.cache_data(show_spinner=False, max_entries=16)
def _detail(key: Stamp, domain: str, _store: Store) -> DomainDetail:
    return _store.registry.domain(domain)


@st.cache_data(show_spinner=False, max_entries=4)
def _masks(key: Stamp, _store: Store) -> dict[str, Mask]:
    return read_masks(_store.registry, _events(key, None, _store))


@st.cache_data(show_spinner=False, max_entries=16)
def _documents(key: Stamp, domain: str, version: str, _store: Store) -> tuple[Document, ...]:
    return _store.registry.documents(domain, version)


@st.cache_data(show_spinner=False, max_entries=16)
def _document_rows(
    key: Stamp, document_id: str, segment_ids: tuple[str, ...], _store: Store
) -> tuple[DocumentRow, ...]:
    return tuple(document_rows_of(_store.registry, document_id, segment_ids))


@st.cache_data(show_spinner=False, max_entries=4, ttl=30)
def _glance(key: Stamp, _store: Store) -> tuple[Finding, ...]:
    return _store.registry.glance()


@st.cache_data(show_spinner=False, max_entries=4)
def _purged_versions(key: Stamp, _store: Store) -> frozenset[str]:
    return _store.registry.purged_versions()
