"""Making a store: its base, its budget, and what ordinary text looks like to that base."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from peer_cl.attach import Attachment
from peer_cl.bases import Base, load_base, within_context
from peer_cl.errors import CorpusError, InputError, StoreFormatError
from peer_cl.inputs import check_host_layers
from peer_cl.mixture import check_name_odds, share
from peer_cl.whole import ascending
from peer_cl.words import OrdinaryWords, TokenCounts
from pipelines.base_models import SMOLLM2, resolve_base
from pipelines.batches import tokenise
from pipelines.ordinary import read_ordinary
from pipelines.precision import resolve_precision
from pipelines.progress import Progress, no_progress
from pipelines.signatures import make_background, mark_ids, words_alone
from pipelines.states import signature_states
from pipelines.store import Store
from stores import ObjectStore, Registry, StoreConfig, StoreLayout
from stores.faiss_extra import check_faiss
from stores.places import check_database_url, check_objects_url
from stores.processes import user_name
from stores.trusted import trust_database
from stores.words import check_words

MAX_BACKGROUND_TOKENS = 160
"""How much of each calibration text is read."""
_LEAST_TEXTS = 2
"""One gives the statistics, another thresholds."""


def spread_layers(depth: int) -> tuple[int, ...]:
    """Return the default host layers: all of a model's but the lowest tenth.

    Example:
        >>> spread_layers(12)
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
        >>> spread_layers(4)
        (0, 1, 2, 3)
    """
    return tuple(range(depth // 10, depth))


def init_store(
    folder: str | Path,
    *,
    base: str = SMOLLM2,
    host_layers: Sequence[int] | None = None,
    budget: float = 0.02,
    capacity: int = 16,
    name_odds: float = 0.0,
    keep_text: bool = True,
    background: Sequence[str] | None = None,
    objects_url: str | None = None,
    database_url: str | None = None,
    who: str | None = None,
    progress: Progress = no_progress,
) -> Store:
    """Make a store in an empty or new folder and return it, open.

    The folder's own files are looked at first, before minutes are spent on the base.

    Args:
        folder: where.
        base: "smollm2" for the embedded model, a folder (stored as an absolute path, so that the
            store can be used from anywhere), or a hub id.
        host_layers: decoder layers that pools use; default: all but the lowest tenth.
        budget: b; no scored document loses more than -log(1 - b) nats over the base.
        capacity: how many domains the budget is divided among; fixed from now on.
        name_odds: what a pool has beside its share where a short prompt names its domain, as odds
            against the base; for such a prompt with what follows it the bound is wider by
            about log(1 + name_odds), see `peer_cl.mixture.named_bound_nats`.
        keep_text: keep the documents' texts; without them a document cannot be evaluated again or
            erased exactly.
        background: texts that show the base ordinary language; default: pinned public sources.
        objects_url: an empty place for the objects, by fsspec URL; default: in the folder.
        database_url: an empty PostgreSQL database for the registry, without its password; default:
            a SQLite file in the folder.
        who: written beside the act.
        progress: told how far it is.

    Raises:
        StoreFormatError: when there is a store already.
        StateError: when the folder holds anything that is not a store's, or another place is not
            empty or cannot be reached.
        InputError: when a layer, a number or a URL cannot be used, or `who` cannot be kept.
        CorpusError: when there are fewer than two background texts.
        UnsupportedError: when FAISS is not installed.
    """
    check_faiss()
    check_words("who", who or user_name())
    folder = Path(folder)
    if (folder / "store.toml").exists():
        raise StoreFormatError(
            f"there is a store in {folder} already; choose another folder, or use that one (in "
            "Python `open_store` opens it)"
        )
    layout = StoreLayout(folder)
    layout.check_is_free()
    share(budget, capacity)
    capacity, name_odds = int(capacity), check_name_odds(name_odds)
    if host_layers is not None:
        host_layers = ascending(host_layers)
    if isinstance(background, str):
        raise InputError("background must be a list of texts, not one text: give [text, ...]")
    if background is not None and len(background) < _LEAST_TEXTS:
        raise CorpusError(
            f"background statistics need at least {_LEAST_TEXTS} texts, not {len(background)}"
        )
    check_words("base", _lasting_name(base))
    if objects_url is not None:
        check_objects_url(objects_url, folder)
    if database_url is not None:
        check_database_url(database_url)
        trust_database(database_url)  # before minutes are spent: a list that cannot be written
    loaded = load_base(resolve_base(base, lambda what: progress(what, 0, 0, "")))
    depth = loaded.model.config.get_text_config(decoder=True).num_hidden_layers
    wanted = spread_layers(depth) if host_layers is None else host_layers
    layers, signature_layer = check_host_layers(loaded.model, wanted)
    attachment = Attachment(loaded.model, tap=layers[0], signature_layer=signature_layer)
    texts = list(background) if background is not None else _calibration_texts()
    # By hash, so that both halves hold every source, whatever the order of the texts.
    texts = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    most = within_context(loaded.model, MAX_BACKGROUND_TOKENS)
    ids = [row[:most] for row in tokenise(loaded.tokenizer, texts)]
    states = signature_states(
        attachment, ids, "reading background text", progress, precision=resolve_precision("auto")
    )
    ordinary = read_ordinary(attachment, ids, layers, progress, precision=resolve_precision("auto"))
    half = (len(states) + 1) // 2
    words = _ordinary_words(loaded, background)
    statistics = make_background(states[:half], states[half:], seed=0, words=words)
    attachment.detach()
    objects = ObjectStore(layout.objects_at(objects_url), layout.staging)
    config = StoreConfig(
        store_id=uuid.uuid4().hex,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        base_id=_lasting_name(base),
        base_weights_sha256=loaded.identity.weights_sha256,
        base_tokenizer_sha256=loaded.identity.tokenizer_sha256,
        architecture=type(loaded.model).__name__,
        num_layers=depth,
        width=attachment.width,
        host_layers=layers,
        signature_layer=signature_layer,
        budget=budget,
        capacity=capacity,
        name_odds=name_odds,
        background_object=objects.put_bytes(statistics.to_bytes()),
        ordinary_object=objects.put_bytes(ordinary.to_bytes()),
        keep_text=keep_text,
        objects_url=objects_url,
        database_url=database_url,
    )
    return Store(Registry.create(folder, config, who=who or ""), who=who)


def _lasting_name(base: str) -> str:
    """Return a base's name as it can be found again from every folder."""
    # Links are kept: a folder's stable name may be one.
    return str(Path(base).absolute()) if base != SMOLLM2 and Path(base).is_dir() else base


def _calibration_texts(is_whole: bool = False) -> list[str]:
    from pipelines.background import load_background

    sources = load_background("calibration", is_whole=is_whole)
    return [text for source in sources for text in source.documents]


def _ordinary_words(base: Base, background: Sequence[str] | None) -> OrdinaryWords:
    """Count the tokens of ordinary text: whole sources, since no pass of the base is needed."""
    texts = list(background) if background is not None else _calibration_texts(is_whole=True)
    special = set(base.tokenizer.all_special_ids)
    rows = (words_alone(ids, special) for ids in tokenise(base.tokenizer, texts))
    marks_M = mark_ids(base.tokenizer)
    # The embedding may be padded to a round number of tokens; no text holds the rest.
    vocabulary = max(1, len(base.tokenizer) - len(marks_M))
    return OrdinaryWords(TokenCounts.of(rows).without(marks_M), vocabulary, marks_M)
