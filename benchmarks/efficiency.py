"""Routing efficiency: the share of a pool's gain that the mixture keeps, where evidence is short.

Unseen text of each domain is cut into documents of 128 tokens. They are scored whole, every domain
active from the first token; and after 32 tokens of context, by which the router decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.results import Figure, store_options
from peer_cl.metrics import efficiency
from peer_cl.read import Reader, read
from pipelines import open_store
from pipelines.batches import pad, tokenise

BLOCK, CONTEXT = 128, 32
"""Tokens of a document, and of the context before what is scored; the start token left out."""
MOST_BLOCKS = 16
"""Of each domain."""
_ROWS_PER_PASS = 8


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the routing efficiency of the domains of a store (`--store FOLDER`)."""
    figures: list[Figure] = []
    with open_store(store_options("efficiency", arguments).store) as store:
        model, tokenizer = store.load()
        queries = store.registry.queries
        for state in queries.live().domains:
            documents = queries.documents(state.domain, state.version, split="test", kind="text")
            ordered = sorted(documents, key=lambda one: one.document_id)
            texts = [queries.document_text(one) for one in ordered if one.text_object is not None]
            rows = blocks(tokenise(tokenizer, texts), tokenizer)
            if state.is_enabled and rows:
                whole = block_losses(model, state.domain, rows)
                after = block_losses(model, state.domain, rows, context=CONTEXT)
                said = f"{state.domain} ({len(rows)} documents) (share)"
                found = sum(after["own_active"]) / len(rows)
                figures += [
                    Figure(f"routing efficiency at 128 tokens, {said}", kept(whole), least=0.94),
                    Figure(f"routing efficiency after 32 tokens, {said}", kept(after), least=0.96),
                    Figure(f"own domain found after 32 tokens, {said}", found),
                ]
        model.detach()
    return figures


def kept(losses: Mapping[str, Sequence[float]]) -> float:
    """Return the share of the gain that is kept, over all documents; 0 where nothing is gained."""
    return efficiency(*(sum(losses[column]) for column in ("base", "oracle", "routed"))) or 0.0


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


def block_losses(
    model: Reader, own: str, rows: Sequence[Sequence[int]], context: int = 0
) -> dict[str, list[float]]:
    """Return the losses, nats, of rows of one length (token ids), unseen text of a domain.

    The router decides by `context` tokens, and what follows is scored; 0: the whole row is, every
    domain active from the first token.

    Returns: a value a row by column: base; oracle, the domain's own branch alone; routed; and
        own_active, whether the mixture has that branch in it.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(rows), _ROWS_PER_PASS):
        ids_BT, mask_BT = pad(rows[start : start + _ROWS_PER_PASS], pad_id=0)
        if context:
            lengths_B = mask_BT.new_full((len(ids_BT),), context + 1)
            routed = read(model, ids_BT, mask_BT, routing="prompt", prompt_lengths=lengths_B)
        else:
            routed = read(model, ids_BT, mask_BT, routing="all")
        alone = read(model, ids_BT, mask_BT, domains=own)
        log_probs = {
            "base": routed.base_BT,
            "oracle": alone.log_probs_QBT[1],
            "routed": routed.mixture_BT,
        }
        for column, log_probs_BT in log_probs.items():
            found[column] += (-log_probs_BT[:, context + 1 :].sum(-1)).tolist()
        if own in routed.domains:
            active_B = routed.entries_PBU[routed.domains.index(own)].sum(-1) > 0
        else:
            active_B = torch.zeros(len(ids_BT), dtype=torch.bool)
        found["own_active"] += active_B.tolist()
    return found
