"""Saving a model's pools into a folder, and reading them again; files that survive a crash.

peer_config.json             settings, the base's hashes, and each pool's files by their sha256
pools/<sha256>.safetensors   segments, router keys and the background statistics

The settings are written last, and every file at once or not at all, so a save that dies leaves the
model that was saved there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_cl.bases import BaseIdentity
from peer_cl.errors import DamageError, StoreFormatError
from peer_cl.own import load_own
from peer_cl.pool import ExpertPool, load_segment
from peer_cl.router import Background, RouterKey

FORMAT = 3


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, durably: a reader sees the old bytes or the new ones, never a part.

    Neither safetensors nor torch.save calls fsync, and a writer that opens the final name first
    destroys the good file when the disk is full.
    """
    temporary = path.parent / f"{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # folders cannot be opened there
        folder = os.open(path.parent, os.O_RDONLY)  # without it a rename may be lost with the power
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class SavedModel:
    """What a folder holds of a model, beside its base."""

    settings: dict[str, Any]
    pools: dict[str, ExpertPool]
    background: Background | None


def write_folder(folder: Path, saved: SavedModel, identity: BaseIdentity) -> None:
    """Write a model on a base of this identity; an earlier save's other files are removed."""
    files = folder / "pools"
    files.mkdir(parents=True, exist_ok=True)

    def write(data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        replace_file(files / f"{name}.safetensors", data)
        return name

    config = {
        "format": FORMAT,
        "settings": saved.settings,
        "base_weights_sha256": identity.weights_sha256,
        "base_tokenizer_sha256": identity.tokenizer_sha256,
        "background": write(saved.background.to_bytes()) if saved.background else None,
        "pools": {
            name: {
                "segments": [write(segment.to_bytes(identity)) for segment in pool.chain()],
                "own": [write(own.to_bytes(identity)) for own in pool.own_experts()],
                "key": write(pool.key.to_bytes()) if pool.key else None,
            }
            for name, pool in saved.pools.items()
        },
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    replace_file(folder / "peer_config.json", text.encode())
    for path in files.glob("*.safetensors"):
        if path.stem not in text:
            path.unlink()


def read_folder(folder: Path, identity: BaseIdentity) -> SavedModel:
    """Return what `write_folder` wrote, for a base of this identity."""
    path = folder / "peer_config.json"
    if not path.is_file():
        raise StoreFormatError(f"{folder} holds no peer_config.json: no model was saved there")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamageError(f"{path} cannot be read: {error}; save the model again") from error
    if config["format"] != FORMAT:
        raise StoreFormatError(f"{path} has format {config['format']}, this version reads {FORMAT}")
    made_for = BaseIdentity(config["base_weights_sha256"], config["base_tokenizer_sha256"])
    identity.check(made_for, f"the model in {folder}")

    def read(name: str) -> bytes:
        file = folder / "pools" / f"{name}.safetensors"
        data = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(data).hexdigest() != name:
            raise DamageError(f"{file} is missing, or its bytes changed; save the model again")
        return data

    background = config["background"]
    return SavedModel(
        settings=config["settings"],
        pools={
            name: ExpertPool(
                name,
                [load_segment(read(segment), identity, name=name) for segment in about["segments"]],
                RouterKey.from_bytes(read(about["key"])) if about["key"] else None,
                [load_own(read(own), identity, name=name) for own in about["own"]],
            )
            for name, about in config["pools"].items()
        },
        background=Background.from_bytes(read(background)) if background else None,
    )
