"""From a snapshot to a model that knows it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AutoTokenizer

from peer_cl.bases import Base, load_base, reason_of, tokenizer_hashes
from peer_cl.errors import (
    BaseMismatchError,
    CorpusError,
    DamageError,
    InputError,
    PeerError,
    StateError,
)
from peer_cl.model import PeerModel
from peer_cl.pool import BaseIdentity, ExpertPool, Segment, load_segment
from peer_cl.signature import Background, NearestSearch, Signature, nearest_distances
from pipelines.base_check import check_computes
from pipelines.base_models import resolve_base
from pipelines.masks import Mask
from pipelines.naming import names_of
from pipelines.ordinary import OrdinaryText
from stores import DomainState, Registry, Snapshot
from stores.faiss_extra import check_faiss
from stores.index_files import SIGNATURES, remove_index
from stores.records import MASK

if TYPE_CHECKING:
    from stores import Segment as SegmentRow
    from stores.vector_index import SignatureIndex


_VERSIONS: WeakKeyDictionary[ExpertPool, str] = WeakKeyDictionary()
"""Which version a pool was loaded from, while it is there."""
_SNAPSHOTS: WeakKeyDictionary[PeerModel, tuple[str, int]] = WeakKeyDictionary()
"""Of which store and snapshot a model is, while it is there."""


def load_store_base(registry: Registry) -> Base:
    """Return the store's base model, checked against the hashes in store.toml.

    Raises:
        StateError: when no model can be loaded from where it was when the store was made; the
            loader's own words follow.
        BaseMismatchError: when another model or tokenizer stands there now; both hashes shown.
    """
    config = registry.config
    try:
        base = load_base(resolve_base(config.base_id))
    except InputError as error:
        raise StateError(
            f"the store in {registry.folder} stands on {config.base_id}, from which nothing can be "
            "loaded here: put the same model there again (a link will do; its hashes are checked), "
            f"or let this machine reach the hub; the reason: {error}"
        ) from error
    identity = base.identity.check(store_identity(registry), f"the store in {registry.folder}")
    return replace(base, identity=identity)


def store_identity(registry: Registry) -> BaseIdentity:
    """Return the base's hashes that the store remembers."""
    config = registry.config
    return BaseIdentity(config.base_weights_sha256, config.base_tokenizer_sha256)


def load(
    registry: Registry, snapshot_id: int | None = None, *, with_disabled: bool = False
) -> tuple[PeerModel, Any]:
    """Return the model of a snapshot and the base's tokenizer.

    The live snapshot is the one that is live when the pools are read: while the base is, another
    process may take a domain out and purge it.

    Args:
        registry: an open store.
        snapshot_id: which snapshot; default: the live one.
        with_disabled: load disabled domains too.

    Raises:
        UnknownError: when there is no such snapshot.
        StateError: when it holds a version that was purged.
        DamageError: when an object's bytes changed.
        BaseMismatchError: for another base.
        UnsupportedError: when FAISS is not installed.
    """
    check_faiss()
    snapshot = registry.live() if snapshot_id is None else registry.snapshot(snapshot_id)
    base = load_store_base(registry)
    while True:
        try:
            return _with_pools(registry, base, snapshot, with_disabled), base.tokenizer
        except (DamageError, StateError, LookupError):
            live = registry.live()
            if snapshot_id is not None or live.id == snapshot.id:
                raise
            snapshot = live  # what is missing may have been purged since


def _with_pools(
    registry: Registry, base: Base, snapshot: Snapshot, with_disabled: bool
) -> PeerModel:
    """Return the base with a snapshot's pools; where that fails nothing is left on it."""
    model = empty_model(registry, base)
    try:
        states = [s for s in snapshot.domains if s.is_enabled or with_disabled]
        for state in states:
            add_version(model, registry, state.domain, state.version)
        model.search = index_search(registry, model, states, snapshot.index_tag)
    except BaseException:
        model.detach()
        raise
    _SNAPSHOTS[model] = registry.config.store_id, snapshot.id
    return model


def move(model: PeerModel, registry: Registry, old: Snapshot, new: Snapshot) -> None:
    """Make the model of one snapshot that of another of the same store, in place.

    Only pools that differ go and come. What stays computes the same bits, since pools never depend
    on each other; the base is not read again.

    Raises: DamageError: when an object's bytes changed; the model is of no use then.
    """
    before = {(state.domain, state.version) for state in old.domains if state.is_enabled}
    states = [state for state in new.domains if state.is_enabled]
    after = {(state.domain, state.version) for state in states}
    for domain, _ in sorted(before - after):
        model.delete_pool(domain)
    for domain, version in sorted(after - before):
        add_version(model, registry, domain, version)
    model.search = index_search(registry, model, states, new.index_tag)
    _SNAPSHOTS[model] = registry.config.store_id, new.id


def snapshot_of(registry: Registry, model: PeerModel | None) -> Snapshot:
    """Return the snapshot that a model was loaded from; the live one where it is of none here, or
    there is no model yet."""
    store_id, snapshot_id = ("", 0) if model is None else _SNAPSHOTS.get(model, ("", 0))
    is_ours = store_id == registry.config.store_id
    return registry.snapshot(snapshot_id) if is_ours else registry.live()


def check_loaded(
    registry: Registry, model: PeerModel, snapshot: Snapshot, names: Sequence[str]
) -> None:
    """Refuse a model of which pools are not those of a snapshot: their rows hold other documents.

    Args:
        registry: an open store.
        model: whose pools are asked.
        snapshot: of the same store.
        names: of the pools that are meant.

    Raises:
        StateError: naming the first that is of another version, or of no store.
        UnknownError: when the model has no such pool.
    """
    for name in names:
        loaded, state = _VERSIONS.get(model.pool(name)), snapshot.state(name)
        if loaded is None or state is None or state.version != loaded:
            holds = "no version of a store" if loaded is None else f"version {loaded[:12]}"
            has = "none" if state is None else state.version[:12]
            raise StateError(
                f"the model holds {holds} as {name!r}, snapshot {snapshot.id} has {has}: load the "
                "model anew (`store.load()`), or name the snapshot that it was loaded from"
            )


def empty_model(registry: Registry, base: Base) -> PeerModel:
    """Return the store's model without any pool.

    Raises: BaseMismatchError: when the base has its old weights and computes something else.
    """
    config = registry.config
    model = PeerModel(
        base.model,
        host_layers=config.host_layers,
        signature_layer=config.signature_layer,
        identity=base.identity,
        background=load_background_statistics(registry),
        budget=config.budget,
        capacity=config.capacity,
        name_odds=config.name_odds,
        special_ids=base.tokenizer.all_special_ids,
    )
    ordinary = _readable_ordinary(registry)
    if ordinary is not None:
        check_computes(model.attachment, ordinary, f"the store in {registry.folder}")
    return model


def _readable_ordinary(registry: Registry) -> OrdinaryText | None:
    """Return the ordinary text that the store keeps; None where there is none to compare with.

    Pools speak without it, so a store that lost it is still of use: `doctor` tells of it, and a
    new ingest, which needs it, says so.
    """
    try:
        return kept_ordinary(registry)
    except (DamageError, LookupError):
        return None


def kept_ordinary(registry: Registry) -> OrdinaryText | None:
    """Return the ordinary text that a store keeps; None: it was made before any was kept."""
    kept = registry.config.ordinary_object
    return None if kept is None else OrdinaryText.from_bytes(registry.objects.read(kept))


def load_background_statistics(registry: Registry) -> Background:
    """Return the background statistics that the store was made with."""
    return Background.from_bytes(registry.objects.read(registry.config.background_object))


def add_version(
    model: PeerModel, registry: Registry, domain: str, version: str, name: str | None = None
) -> ExpertPool:
    """Add one version of a domain to a model, under the domain's name or another.

    Raises: StateError, DamageError: as `load_chain`.
    """
    segments = load_chain(registry, domain, registry.chain(version), model.identity)
    name = name or domain
    pool = model.add_pool(
        name, ExpertPool(name, segments, read_signature(registry, domain, version))
    )
    _VERSIONS[pool] = version
    return pool


def read_signature(registry: Registry, domain: str, version: str) -> Signature:
    """Return a version's signature, with the domain's names in a store that counts them."""
    chain = registry.chain(version)
    signature = Signature.from_bytes(registry.objects.read(chain[-1].signature_object))
    if not registry.config.name_odds:
        return signature
    names = names_of(registry, domain, version, load_tokenizer(registry))
    return replace(signature, names=names)


def load_tokenizer(registry: Registry) -> Any:
    """Return the base's tokenizer without loading the base.

    Raises:
        CorpusError: when it cannot be loaded.
        BaseMismatchError: when it is not the one that the store was made with.
    """
    config = registry.config
    return _checked_tokenizer(str(resolve_base(config.base_id)), config.base_tokenizer_sha256)


@functools.lru_cache(maxsize=2)
def _checked_tokenizer(source: str, expected: str) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # for damaged files its libraries raise errors of a dozen kinds
        raise CorpusError(
            f"the base's tokenizer cannot be loaded from {source!r}: {reason_of(error)}"
        ) from error
    found = tokenizer_hashes(tokenizer)
    if expected not in found:
        raise BaseMismatchError(
            f"the tokenizer in {source!r} hashes to {found[0][:16]}..., the store was made with "
            f"{expected[:16]}...; put the old one back"
        )
    return tokenizer


def load_chain(
    registry: Registry, domain: str, chain: Sequence[SegmentRow], identity: BaseIdentity
) -> list[Segment]:
    """Return the segments of a domain's version, oldest first, each verified by its hash.

    Masks of the chain are laid over the segments; they are no segments themselves.

    Raises:
        StateError: when a segment was purged.
        DamageError: when an object is damaged or missing.
    """
    segments: dict[str, Segment] = {}
    for row in chain:
        try:
            if row.kind == MASK:
                Mask.from_bytes(registry.objects.read(row.pool_object)).apply(segments)
            else:
                segments[row.id] = verified_segment(registry, row.pool_object, identity)
        except (DamageError, LookupError) as error:
            if registry.chain(row.id)[-1].is_purged:  # by now: a chain is read before its objects
                raise StateError(
                    f"{domain} {row.label} was purged: its bytes are gone; name a snapshot that "
                    "does not hold it"
                ) from error
            raise DamageError(
                f"domain {domain}, version {row.label}: {error}; run `peer-cl doctor`, then roll "
                "the domain back to an earlier version or ingest it again"
            ) from error
    return list(segments.values())


def verified_segment(registry: Registry, object_id: str, identity: BaseIdentity) -> Segment:
    """Return a stored segment, its bytes checked by their hash and its tensors one by one."""
    objects = registry.objects
    path = objects.path(object_id)
    if path is not None:
        return load_segment(path, identity)
    # Objects in a bucket have no path, and a file beside them would stay when this is killed.
    return load_segment(objects.read(object_id), identity, name=f"object {object_id[:12]}")


def index_search(
    registry: Registry, model: PeerModel, states: Sequence[DomainState], tag: str
) -> NearestSearch:
    """Return a FAISS search over the live signatures, built anew where the stored one is unfit.

    The index is a cache: missing, stale, damaged or with other vectors, it is rebuilt from the
    signatures, which their hashes prove; and where it cannot be written, it serves from memory.
    """
    from stores.vector_index import SignatureIndex

    names = [state.domain for state in states]
    folder = registry.layout.index
    index = SignatureIndex.load(folder, tag)
    centroids = {
        name: signature.centroids_CD.numpy()
        for name in names
        if (signature := model.pool(name).signature) is not None
    }
    if index is None or not index.holds(centroids):
        index = SignatureIndex.build(centroids)
        is_saved = _is_live(registry, tag) and _try_save(index, folder, tag)
        if is_saved and not _is_live(registry, tag):
            remove_index(folder, SIGNATURES)  # a purge meanwhile may have been of these domains
    # The tensors themselves are held: another one might get the id of one that is gone.
    indexed = [_centroids(model, name) for name in index.names]
    order = {id(centroids): (place, centroids) for place, centroids in enumerate(indexed)}

    def search(vectors_TD: Tensor, centroid_sets: Sequence[Tensor]) -> Tensor:
        # Of pools that were added by hand each is measured alone: none changes another's distances.
        is_known = [id(one) in order for one in centroid_sets]
        by_hand = [one for one, known in zip(centroid_sets, is_known, strict=True) if not known]
        found_TP = nearest_distances(vectors_TD, by_hand)
        if not any(is_known):
            return found_TP
        places = [order[id(one)][0] for one in centroid_sets if id(one) in order]
        indexed_TP = torch.from_numpy(index.nearest(vectors_TD.numpy()))[:, places]
        new, old = iter(found_TP.unbind(-1)), iter(indexed_TP.unbind(-1))
        return torch.stack([next(old if known else new) for known in is_known], -1)

    return search


def _is_live(registry: Registry, tag: str) -> bool:
    return registry.live().index_tag == tag


def _centroids(model: PeerModel, name: str) -> Tensor | None:
    signature = model.pool(name).signature
    return signature.centroids_CD if signature is not None else None


def _try_save(index: SignatureIndex, folder: Path, tag: str) -> bool:
    """Save the index for the next load; a read-only or full disk costs only the rebuilding."""
    try:
        folder.mkdir(exist_ok=True)
        index.save(folder, tag)
    except (OSError, PeerError):
        return False
    return True
