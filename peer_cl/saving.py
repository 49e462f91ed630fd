"""Saving a model's pools into a folder, and loading them again on the same base.

peer_config.json     settings, base hashes, what the base computes, and each pool's files by their
                     sha256
pools/<sha256>.safetensors   segments, signatures and the background statistics
.saving.lock         held while a model is saved; empty

The settings are written last and every file at once or not at all, so a save that dies leaves the
model that was saved there before. Of several processes that save into one folder (all ranks of a
distributed run) each waits for the one before. Who loads waits for nobody, since the folder may be
read-only: where the settings changed meanwhile, it begins anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from peer_cl.bases import identify
from peer_cl.computes import check_computed, computed
from peer_cl.durable import file_sha256, replace_file, sync_folder
from peer_cl.errors import BaseMismatchError, DamageError, PeerError, StoreFormatError
from peer_cl.model import PeerModel
from peer_cl.pool import BaseIdentity
from peer_cl.signature import Background, Signature

FORMAT = 1
_WRITTEN = re.compile(r"([0-9a-f]{64})\.safetensors")
"""What `save_model` names its files in `pools/`."""
_PART = re.compile(r"[0-9a-f]{32}\.part|[0-9a-f]{64}\.safetensors\.part")
"""A file in the making, as it is called now or was before; no others are removed."""


def save_model(model: PeerModel, folder: Path) -> None:
    """Write every pool and setting, and what `set_pool` let be asked; the base is not copied.

    Files that are there already with the right bytes are left alone; those of pools that the model
    no longer has are removed at the end.

    The base is named by its weights as they were hashed when the model was made, and by their
    dtype. After `model.half()` they are others, and `PeerModel.save_pretrained` refuses: save
    before, or make the model on a base in half precision.

    What the base computes for some fixed tokens is written beside the hashes, and held against what
    it computes when the model is loaded.

    Signatures are saved too: they say how often each token stands in what a pool learned.

    Args:
        model: the model.
        folder: made where it is missing.

    Raises: OSError: when a file cannot be written; what was saved there before can be loaded.
    """
    files = folder / "pools"
    files.mkdir(parents=True, exist_ok=True)
    # What one save writes is named by nothing until its settings are, and another would remove it.
    with FileLock(folder / ".saving.lock"):
        config = _write_files(model, files)
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        sync_folder(files)  # the settings must not outlive, in a power cut, what they name
        replace_file(folder / "peer_config.json", text.encode())
        _remove_others(folder, config)


def _write_files(model: PeerModel, files: Path) -> dict[str, Any]:
    """Write what the settings name, and return the settings."""
    pools: dict[str, Any] = {}
    for name in model.get_model_status().pools:
        pool = model.pool(name)
        segments = [_write(files, s.to_bytes(model.identity)) for s in pool.chain()]
        signature = _write(files, pool.signature.to_bytes()) if pool.signature else None
        pools[name] = {"segments": segments, "signature": signature}
    background = _write(files, model.background.to_bytes()) if model.background else None
    computes = computed(model.attachment)
    active = model._active  # as `set_pool` was told, whatever `disable_pool` does just now
    config = {
        "format": FORMAT,
        "base_weights_sha256": model.identity.weights_sha256,
        "base_tokenizer_sha256": model.identity.tokenizer_sha256,
        **({"base_dtype": model.identity.dtype} if model.identity.dtype else {}),
        "host_layers": list(model.host_layers),
        "signature_layer": model.attachment.signature_layer,
        "budget": model.budget,
        "capacity": model.capacity,
        **({"name_odds": model.name_odds} if model.name_odds else {}),
        **({"active": sorted(active)} if active is not None else {}),
        "special_ids": model.special_ids.tolist(),
        **({"computes": computes} if computes else {}),
        "background": background,
        "pools": pools,
    }
    config["sha256"] = _checksum(config)
    return config


def _write(folder: Path, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    path = folder / f"{name}.safetensors"
    if not path.is_file() or file_sha256(path) != name:
        replace_file(path, data)
    return name


def _remove_others(folder: Path, config: dict[str, Any]) -> None:
    """Remove the files of earlier saves that the settings no longer name."""
    named = {config["background"]}
    for about in config["pools"].values():
        named |= {*about["segments"], about["signature"]}
    for path in [*folder.iterdir(), *(folder / "pools").iterdir()]:
        written = _WRITTEN.fullmatch(path.name) if path.parent != folder else None
        if _PART.fullmatch(path.name) or (written and written[1] not in named):
            path.unlink()


def _read(folder: Path, name: str) -> bytes:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise DamageError(f"{path.name} is missing from {folder}; save the model again")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != name:
        raise DamageError(f"{path.name} hashes to {found[:16]}..., not to its name")
    return data


def load_model(folder: Path, base: Any, tokenizer: Any = None) -> PeerModel:
    """Return the model that `save_model` wrote, on its base.

    Args:
        folder: where it was saved.
        base: the loaded base model, in the dtype that the saved model was made in: `load_base`
            loads float32, while transformers' own loaders take the checkpoint's dtype.
        tokenizer: its tokenizer; None only where it was saved without one.

    Raises:
        StoreFormatError: when the folder holds no saved model.
        BaseMismatchError: for another base, dtype or tokenizer; both hashes are shown. For a base
            that has its old weights and computes something else.
        DamageError: when a file is missing or its bytes changed.
    """
    path = folder / "peer_config.json"
    if not path.is_file():
        raise StoreFormatError(f"{folder} holds no peer_config.json: no model was saved there")
    config, found = _read_config(path), identify(base, tokenizer)
    while True:
        try:
            return _load_saved(folder, config, base, tokenizer, found)
        except (PeerError, OSError):
            newer = _read_config(path)
            if newer == config:
                raise
            config = newer  # saved anew meanwhile, and what only the old settings named is gone


def _load_saved(
    folder: Path, config: dict[str, Any], base: Any, tokenizer: Any, found: BaseIdentity
) -> PeerModel:
    """Return the model that some settings name, on a base that was found to be what it is."""
    made_for = BaseIdentity(
        config["base_weights_sha256"],
        config["base_tokenizer_sha256"],
        dtype=config.get("base_dtype", ""),  # not kept before
    )
    if not made_for.tokenizer_sha256:
        found = BaseIdentity(found.weights_sha256, "", dtype=found.dtype)
    elif tokenizer is None and made_for.tokenizer_sha256 != found.tokenizer_sha256:
        raise BaseMismatchError(
            f"the model in {folder} was saved with a tokenizer, and none is given: pass the "
            "tokenizer that it was saved with"
        )
    found = found.check(made_for, f"the model in {folder}")
    files, background = folder / "pools", config["background"]
    model = PeerModel(
        base,
        host_layers=config["host_layers"],
        signature_layer=config["signature_layer"],
        identity=found,
        background=Background.from_bytes(_read(files, background)) if background else None,
        budget=config["budget"],
        capacity=config["capacity"],
        name_odds=config.get("name_odds", 0.0),
        special_ids=config["special_ids"],
    )
    try:
        if "computes" in config:  # not kept before
            check_computed(model.attachment, config["computes"], f"the model in {folder}")
        for name, about in config["pools"].items():
            _load_pool(model, files, name, about)
        model.set_pool(config.get("active"))
    except Exception:
        model.detach()  # a refused model leaves no hooks on the base
        raise
    return model


def _load_pool(model: PeerModel, files: Path, name: str, about: dict[str, Any]) -> None:
    signature = about["signature"]
    for segment in about["segments"]:
        _read(files, segment)
    model.load_pool(
        name,
        [files / f"{segment}.safetensors" for segment in about["segments"]],
        Signature.from_bytes(_read(files, signature)) if signature else None,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DamageError(
            f"{path} cannot be read as JSON: {error}; save the model again"
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise StoreFormatError(f"{path} has format {found}, this version reads {FORMAT}")
    if config.get("sha256") != _checksum(config):
        raise DamageError(f"{path} was changed since it was saved; save the model again")
    return config


def _checksum(config: dict[str, Any]) -> str:
    """Return a hash over the settings: budget and special tokens carry the promises."""
    rest = {key: value for key, value in config.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
