"""Making a store: its base, its budget, and what background text looks like to that base."""

from __future__ import annotations

import functools
import getpass
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from peer_cl.bases import Base, load_base, within_context
from peer_cl.errors import CorpusError, DamageError, StoreFormatError
from peer_cl.hooks import Hooks
from peer_cl.router import Background, starts_in
from peer_cl.trial import try_base
from pipelines.background import load_background
from pipelines.batches import tokenise
from pipelines.encoder import MPNET, checked_encoder
from pipelines.keys import MAX_HELD_TEXTS, beginnings_of, make_background, read_texts
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.packages import cache_folder
from pipelines.progress import Progress, no_progress
from pipelines.relations import make_relation_space
from pipelines.store import Store
from stores.config import StoreConfig
from stores.objects import replace_file
from stores.registry import Registry

MAX_BACKGROUND_TOKENS = 160
"""How much of each background text is read."""
STATISTICS_VERSION = 4
"""Raised when the same texts would give other background statistics than before."""
SHIPPED_STATISTICS = Path(__file__).parent / "data"
"""Background statistics of the default base, made by `python -m pipelines.init`."""


def init_store(
    folder: str | Path,
    *,
    base: str = SMOLLM2,
    dtype: str = "fp32",
    device: str = "auto",
    host_layers: Sequence[int] | None = None,
    budget: float = 0.02,
    capacity: int = 16,
    keep_text: bool = True,
    encoder: str = MPNET,
    background: Sequence[str] | None = None,
    objects_url: str | None = None,
    database_url: str | None = None,
    author: str | None = None,
    progress: Progress = no_progress,
) -> Store:
    """Make a store in a new or empty folder and return it, open.

    Args:
        folder: where.
        base: "smollm2" for the embedded model, a folder (stored as an absolute path, so that the
            store can be used from anywhere), or a hub id.
        dtype: in which the base is loaded, fp32, bf16, fp16 or int8 (`peer_cl.bases.DTYPES`).
        device: where it computes, as for `open_store`.
        host_layers: decoder layers that get experts; default: all but the lowest tenth.
        budget: b; no scored document loses more than -log(1 - b) nats over the base.
        capacity: how many domains the budget is divided among.
        keep_text: keep the documents' texts, which evaluation and exact erasure need.
        encoder: what makes vectors of sentences and questions: "all-mpnet-base-v2" or
            "all-MiniLM-L6-v2", or a name or folder for sentence-transformers.
        background: texts of no domain, at least two; default: pinned public sources.
        objects_url: an empty place for the objects, by fsspec URL; default: in the folder.
        database_url: an empty PostgreSQL database; default: a SQLite file in the folder.
        author: recorded with the act; default: the user's name.
        progress: called as the work goes on.

    Raises:
        StoreFormatError: when there is a store already.
        StateError: when the folder, or another place, is not empty or cannot be reached.
        InputError: when the base cannot be loaded, or a value is out of range.
        CorpusError: when there are fewer than two background texts.
    """
    folder = Path(folder)
    if (folder / "store.toml").exists():
        raise StoreFormatError(f"there is a store in {folder} already; choose another folder")
    if background is not None and len(background) < 2:
        raise CorpusError(f"background statistics need at least 2 texts, not {len(background)}")
    source = resolve_base(base, lambda what: progress(what, 0, 0, ""))
    loaded = load_base(source, dtype=dtype, device=device)
    depth = int(loaded.model.config.get_text_config(decoder=True).num_hidden_layers)
    hooks = Hooks(loaded.model)
    config = StoreConfig(
        # A folder's name must hold from everywhere; links are kept, one may be its stable name.
        base_id=str(Path(base).absolute()) if base != SMOLLM2 and Path(base).is_dir() else base,
        base_weights_sha256=loaded.identity.weights_sha256,
        base_tokenizer_sha256=loaded.identity.tokenizer_sha256,
        architecture=type(loaded.model).__name__,
        dtype=dtype,
        num_layers=depth,
        width=hooks.width,
        host_layers=spread_layers(depth) if host_layers is None else tuple(host_layers),
        state_layer=hooks.state_layer,
        base_trial=try_base(hooks),
        budget=budget,
        capacity=capacity,
        keep_text=keep_text,
        encoder=checked_encoder(encoder, lambda what: progress(what, 0, 0, "")),
        objects_url=objects_url,
        database_url=database_url,
    )
    statistics = background_statistics(loaded, hooks, background, progress)
    statistics = replace(statistics, starts=known_starts(loaded))
    author = author or getpass.getuser()
    registry = Registry.create(folder, config, statistics.to_bytes(), author)
    return Store(registry, author=author, device=device)


def spread_layers(depth: int) -> tuple[int, ...]:
    """Return the default host layers: all of a model's but the lowest tenth.

    Example:
        >>> spread_layers(12)
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
        >>> spread_layers(4)
        (0, 1, 2, 3)
    """
    return tuple(range(depth // 10, depth))


def background_statistics(
    base: Base, hooks: Hooks, texts: Sequence[str] | None = None, progress: Progress = no_progress
) -> Background:
    """Return the background statistics of a base: those that are known, or else made now.

    Known are the default base's, which come with the project, and those in the user's cache. Both
    hold numbers alone: how texts begin is read from the texts, at least two of no domain, by
    default the pinned public sources.
    """
    name = statistics_name(base, hooks, texts)
    for place in (SHIPPED_STATISTICS / name, statistics_cache() / name):
        if place.is_file():
            try:
                known = Background.from_bytes(place.read_bytes())
            except DamageError:
                continue
            return replace(known, beginnings=beginnings_of(_background_ids(base, texts)))
    made = make_statistics(base, hooks, texts, progress)
    statistics_cache().mkdir(parents=True, exist_ok=True)
    replace_file(statistics_cache() / name, replace(made, beginnings=()).to_bytes())
    return made


def make_statistics(
    base: Base, hooks: Hooks, texts: Sequence[str] | None = None, progress: Progress = no_progress
) -> Background:
    """Return the background statistics of a base, made now; args as `background_statistics`."""
    ids = _background_ids(base, texts)
    half = (len(ids) + 1) // 2
    states = read_texts(
        hooks,
        ids[: half + MAX_HELD_TEXTS],
        end_id=base.tokenizer.eos_token_id,
        precision="fp32",  # so that all machines find much the same
        what="reading background text",
        progress=progress,
        only_states=True,
    ).states
    whole = texts if texts is not None else _pinned_texts(is_whole=True)
    made = make_background(base.tokenizer, states[:half], states[half:], ids, whole)
    decoded = [str(base.tokenizer.decode(row[1:])) for row in ids]
    return replace(made, relations=make_relation_space(hooks, base.tokenizer, decoded, progress))


def known_starts(base: Base) -> dict[str, tuple[Tensor, Tensor]]:
    """Return where a base's experts begin to learn, by kind; for a base that has no file: nowhere.

    A file is made once for a base, of public text alone (`python -m benchmarks start`).
    """
    path = SHIPPED_STATISTICS / starts_name(base.identity.weights_sha256)
    return starts_in(load_file(path)) if path.is_file() else {}


def starts_name(weights_sha256: str) -> str:
    """Return the name of the file of a base's starts."""
    return f"starts-{weights_sha256[:16]}.safetensors"


def statistics_cache() -> Path:
    """Return the folder of background statistics that this machine has made."""
    return cache_folder() / "background"


def statistics_name(base: Base, hooks: Hooks, texts: Sequence[str] | None) -> str:
    """Return the name of the file of a base's statistics of some texts (default: pinned ones)."""
    about = [
        STATISTICS_VERSION,
        base.identity.weights_sha256,
        base.identity.tokenizer_sha256,
        hooks.state_layer,
        MAX_BACKGROUND_TOKENS,
        texts is None,  # then words are counted in the whole sources
        [_sha256(text) for text in _in_order(texts)],
    ]
    return f"background-{_sha256(json.dumps(about))[:16]}.safetensors"


def _background_ids(base: Base, texts: Sequence[str] | None) -> list[list[int]]:
    most = within_context(base.model, MAX_BACKGROUND_TOKENS)
    return [row[:most] for row in tokenise(base.tokenizer, _in_order(texts))]


def _in_order(texts: Sequence[str] | None) -> list[str]:
    """Return texts by hash, so that both halves hold every source, whatever their order was."""
    return sorted(_pinned_texts() if texts is None else texts, key=_sha256)


@functools.cache
def _pinned_texts(*, is_whole: bool = False) -> tuple[str, ...]:
    sources = load_background("calibration", is_whole=is_whole)
    return tuple(text for source in sources for text in source.documents)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ship_statistics() -> Path:
    """Make the default base's statistics anew, put them into the project, return their file."""
    base = load_base(resolve_base(SMOLLM2))
    hooks = Hooks(base.model)
    made = make_statistics(base, hooks)
    for old in SHIPPED_STATISTICS.glob("background-*.safetensors"):
        old.unlink()
    path = SHIPPED_STATISTICS / statistics_name(base, hooks, None)
    replace_file(path, replace(made, beginnings=()).to_bytes())
    return path


if __name__ == "__main__":  # `python -m pipelines.init` takes minutes
    ship_statistics()
