"""How often prose of four sources asks a pool of a store.

250 of LAMBADA's passages stood in the tables by which the rule was chosen, and beginnings of
SQuAD's articles; none of the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Figure, at_least, reported
from peer_cl.errors import InputError
from peer_cl.model import PeerModel
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.branches import Shortlist
from pipelines.general_tasks import MIN_CHARACTERS, wikitext_paragraphs
from pipelines.init import MAX_BACKGROUND_TOKENS

COMMAND = "python -m benchmarks shortlist --data FOLDER"


def _json_field(field: str) -> Callable[[str], Iterator[str]]:
    def read(content: str) -> Iterator[str]:
        for line in content.splitlines():
            yield json.loads(line)[field]

    return read


SOURCES: dict[str, tuple[str, Callable[[str], Iterable[str]]]] = {
    "WikiText": ("wikitext2_valid.txt", wikitext_paragraphs),
    "LAMBADA, novels": ("lambada_openai.jsonl", _json_field("context")),
    "SQuAD, encyclopedia": ("squad_stream.jsonl", _json_field("text")),
    "HellaSwag, instructions": ("hellaswag_1k.jsonl", _json_field("query")),
}
"""Public sets by the name of their usual file; none of them is in pipelines/sources.toml."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return, by source, the share of texts that ask none of a store's live pools.

    Args:
        arguments: `--data FOLDER` with the files of SOURCES, `--store FOLDER` (default
            ./knowledge), and `--documents N` of each source.

    Raises:
        InputError: when a file is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks shortlist")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", default="knowledge")
    parser.add_argument("--documents", type=int, default=300)
    options = parser.parse_args(list(arguments))
    texts = {name: _texts(options.data / file, read) for name, (file, read) in SOURCES.items()}
    figures: list[Figure] = []
    with open_store(options.store) as store:
        model, tokenizer = store.load()
        for name, found in texts.items():
            chosen = found[: options.documents]
            asked_PB = _asked(model, tokenizer, chosen)
            alone = 1 - float(asked_PB.any(0).double().mean())
            print(f"{name}: {alone:.3f} of {len(chosen)} ask no pool", flush=True)
            figures.append(
                at_least(f"ask no pool, {name} (share of {len(chosen)})", alone, 0.99, COMMAND)
            )
            figures += [
                reported(f"ask {domain}, {name} (share)", float(row.double().mean()), COMMAND)
                for domain, row in zip(model.active_pools, asked_PB, strict=True)
            ]
        model.detach()
    return figures


def _texts(path: Path, read: Callable[[str], Iterable[str]]) -> list[str]:
    """Return a file's longer texts in an order that hashes decide: a fair sample from the front."""
    if not path.is_file():
        raise InputError(f"{path} is missing; --data wants a folder with that public set")
    kept = {text for text in read(path.read_text(encoding="utf-8")) if len(text) >= MIN_CHARACTERS}
    return sorted(kept, key=lambda text: hashlib.sha256(text.encode()).hexdigest())


def _asked(model: PeerModel, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Return which pools each text asks, given whole (cut at 160 tokens) as a context: (P, B)."""
    found = {name: model.pool(name).signature for name in model.active_pools}
    signatures = {name: signature for name, signature in found.items() if signature is not None}
    if model.background is None or len(signatures) < len(found):
        raise InputError("the store has a pool without a signature: nothing decides who is asked")
    ids = [row[:MAX_BACKGROUND_TOKENS] for row in tokenise(tokenizer, texts)]
    return torch.tensor(list(Shortlist(model, signatures).asked(ids).values()))
