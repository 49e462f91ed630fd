"""Routing efficiency: the share of a pool's gain that the mixture keeps, where evidence is short.

Unseen text of each domain is cut into documents of 128 tokens. They are scored whole, every domain
active from the first token; and after 32 tokens of context, by which the router decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import Figure, at_least, reported
from peer_cl.metrics import efficiency
from peer_cl.read import Reader, Reading, read
from pipelines import open_store
from pipelines.batches import pad, tokenise

COMMAND = "python -m benchmarks efficiency"
BLOCK, CONTEXT = 128, 32
"""Tokens of a document, and of the context before what is scored; the start token left out."""
MOST_BLOCKS = 16
"""Of each domain."""
_ROWS_PER_PASS = 8


@dataclass(frozen=True)
class BlockLosses:
    """A document's losses, nats, in a domain's unseen text."""

    base: float
    oracle: float
    """The domain's own branch alone."""
    routed: float
    own_only: float
    """The mixture of base and own branch: what it lacks of `oracle` is late evidence."""
    own_active: bool


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the routing efficiency of a store's domains.

    Args:
        arguments: `--store FOLDER`, default ./knowledge.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--store", default="knowledge")
    figures: list[Figure] = []
    with open_store(parser.parse_args(list(arguments)).store) as store:
        model, tokenizer = store.load()
        queries = store.registry.queries
        for state in queries.live().domains:
            documents = queries.documents(state.domain, state.version, split="test", kind="text")
            ordered = sorted(documents, key=lambda one: one.document_id)
            texts = [queries.document_text(one) for one in ordered if one.text_object is not None]
            rows = blocks(tokenise(tokenizer, texts), tokenizer)
            if state.is_enabled and rows:
                figures += _of_domain(model, state.domain, rows)
        model.detach()
    return figures


def _of_domain(model: Reader, domain: str, rows: Sequence[Sequence[int]]) -> list[Figure]:
    whole, after = whole_losses(model, domain, rows), context_losses(model, domain, rows)
    said = f"{domain} ({len(rows)} documents)"
    found = sum(one.own_active for one in after) / len(after)
    return [
        at_least(f"routing efficiency at 128 tokens, {said} (share)", kept(whole), 0.94, COMMAND),
        at_least(f"routing efficiency after 32 tokens, {said} (share)", kept(after), 0.96, COMMAND),
        reported(f"own domain found after 32 tokens, {said} (share)", found, COMMAND),
    ]


def kept(losses: Sequence[BlockLosses]) -> float:
    """Return the share of the gain that is kept, over all documents; 0 where nothing is gained."""
    base, oracle, routed = (
        sum(getattr(one, column) for one in losses) for column in ("base", "oracle", "routed")
    )
    return efficiency(base, oracle, routed) or 0.0


def blocks(
    documents: Sequence[Sequence[int]], tokenizer: Any, length: int = BLOCK
) -> list[tuple[int, ...]]:
    """Return documents, given as token ids, one after the other in rows of one length.

    An empty line stands between documents; a rest that is too short is left out.
    """
    gap = tokenizer("\n\n", add_special_tokens=False).input_ids
    if not documents:
        return []
    start, stream = documents[0][0], [token for ids in documents for token in (*ids[1:], *gap)]
    ends = range(length, len(stream) + 1, length)
    return [(start, *stream[end - length : end]) for end in ends][:MOST_BLOCKS]


def whole_losses(model: Reader, own: str, rows: Sequence[Sequence[int]]) -> list[BlockLosses]:
    """Return the losses of rows of one length, every domain active from the first token."""
    found = []
    for ids_BT, mask_BT in _batches(rows):
        every = read(model, ids_BT, mask_BT, routing="all")
        found += _losses(every, read(model, ids_BT, mask_BT, domains=own), own, first=1)
    return found


def context_losses(model: Reader, own: str, rows: Sequence[Sequence[int]]) -> list[BlockLosses]:
    """Return the losses behind the context of rows of one length, the router deciding by it."""
    found = []
    for ids_BT, mask_BT in _batches(rows):
        lengths_B = mask_BT.new_full((len(ids_BT),), CONTEXT + 1)
        routed = read(model, ids_BT, mask_BT, routing="prompt", prompt_lengths=lengths_B)
        alone = read(model, ids_BT, mask_BT, domains=own)
        found += _losses(routed, alone, own, first=CONTEXT + 1)
    return found


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(rows), _ROWS_PER_PASS):
        yield pad(rows[start : start + _ROWS_PER_PASS], pad_id=0)


def _losses(routed: Reading, alone: Reading, own: str, first: int) -> list[BlockLosses]:
    """Return each row's losses from a token on."""
    active_B = torch.zeros(len(routed.input_ids), dtype=torch.bool)
    if own in routed.domains:
        active_B = routed.entries_PBU[routed.domains.index(own)].sum(-1) > 0
    columns_XBT = torch.stack(
        [routed.base_BT, alone.log_probs_QBT[1], routed.mixture_BT, alone.mixture_BT]
    )
    nats_BX = -columns_XBT[..., first:].sum(-1).T
    return [
        BlockLosses(base, oracle, mixture, own_only, is_active)
        for (base, oracle, mixture, own_only), is_active in zip(
            nats_BX.tolist(), active_B.tolist(), strict=True
        )
    ]
