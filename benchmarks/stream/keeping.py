"""Tensors on disk: a file is whole or absent, and what is read back fits what it is put into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from safetensors.torch import load_file, save
from torch import Tensor

from peer_cl.durable import replace_file
from peer_cl.errors import DamageError


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as one file, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, save(tensors, metadata=None if metadata is None else dict(metadata)))


def put_adapter(model: Any, path: Path, name: str = "default") -> None:
    """Put a LoRA's saved weights into an adapter of a PEFT model.

    Raises:
        DamageError: when the file has other weights than the adapter.
    """
    found: Any = peft.set_peft_model_state_dict(model, load_file(path), adapter_name=name)
    mark = f".{name}."
    missing = [key for key in found.missing_keys if "lora_" in key and mark in key]
    wrong = sorted([*missing, *found.unexpected_keys])
    if wrong:
        raise DamageError(
            f"{path} does not fit the adapter: {len(wrong)} weights are missing or unknown, "
            f"as {wrong[0]}; remove it and the raw file of its piece"
        )
