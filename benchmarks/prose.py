"""Ordinary prose beside a store: how often nothing is found, so that every bit is the base's.

LAMBADA's passages with their last word, and paragraphs of WikiText-2, as scored texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.prompts import batches
from benchmarks.results import Figure
from peer_cl.mixture import worst_added_nats
from peer_cl.model import PeerModel
from peer_cl.read import read
from pipelines import open_store
from pipelines.batches import tokenise

NUM_TEXTS = 1_000
NUM_TOKENS = 128
"""Texts are cut here."""
MIN_CHARACTERS = 200
"""Of a paragraph; shorter lines are headings and lists."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what a store finds in prose.

    `--data` is a folder with lambada_openai.jsonl and wikitext2_valid.txt.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks prose")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", default="knowledge")
    options = parser.parse_args(list(arguments))
    sets = {
        "LAMBADA": _lambada(options.data / "lambada_openai.jsonl"),
        "WikiText-2": _wikitext(options.data / "wikitext2_valid.txt"),
    }
    figures = []
    with open_store(options.store) as store:
        model, tokenizer = store.load()
        bound = worst_added_nats(store.registry.config.budget)
        for name, texts in sets.items():
            rows = [ids[:NUM_TOKENS] for ids in tokenise(tokenizer, texts[:NUM_TEXTS])]
            found, added = _read(model, rows)
            said = f"{len(rows):,} texts of {name}"
            share = 1 - sum(found) / len(rows)
            figures += [
                Figure(f"{said}: nothing found, bits of the base (share)", share, least=0.99),
                Figure(f"{said}: worst added loss (nats)", max(added), most=bound),
            ]
    return figures


def _lambada(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [f"{row['context'].strip()} {row['continuation'].strip()}" for row in rows]


def _wikitext(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if len(line) >= MIN_CHARACTERS]


@torch.no_grad()
def _read(model: PeerModel, rows: Sequence[Sequence[int]]) -> tuple[list[bool], list[float]]:
    """Return of each text whether a domain enters it, and what it loses over the base, in nats."""
    found, added = [False] * len(rows), [0.0] * len(rows)
    for group, ids_BT, mask_BT in batches(rows):
        reading = read(model, ids_BT, mask_BT)
        entered_B = (reading.entries_PBU.sum(-1) > 0).any(0)
        for place, number in enumerate(group):
            found[number] = bool(entered_B[place])
            added[number] = float(reading.added_nats_B[place])
    return found, added
