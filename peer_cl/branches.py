"""The base pass, the trunk and the branches: three ways to call the model's own forward.

Shape suffixes: B rows, T tokens, X positions in all rows, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from peer_cl.attach import Attachment, Watch
from peer_cl.errors import UnsupportedError
from peer_cl.pool import Segment
from peer_cl.served import accepted_arguments, unheard


@dataclass(frozen=True)
class BasePass:
    """What the bare model's forward gives, and the two states that were kept on the way."""

    logits_BTV: Tensor
    """The bare model's logits, in its own bits."""
    tap_BTD: Tensor
    """Hidden states before the tap layer."""
    signature_BTD: Tensor
    """Hidden states after the signature layer."""
    feed_forward_BTD: Mapping[int, Tensor] = field(default_factory=dict)
    """By layer, what its feed-forward reads; of the layers that were asked for."""


def run_base(attachment: Attachment, *, reads: Sequence[int] = (), **inputs: Any) -> BasePass:
    """Run the bare model exactly as it would be called, and keep two states on the way.

    Args:
        attachment: the model with its hooks.
        reads: layers, from the tap up, of which the feed-forward's inputs are kept too.
        inputs: passed on untouched.
    """
    with attachment.listening(keeps_inputs=reads) as run:
        output = attachment.model(**inputs)
        for layer in reads:
            if layer not in run.feed_forward_inputs:
                raise unheard(attachment.model, layer)
        kept = {layer: run.feed_forward_inputs[layer] for layer in reads}
    tap_BTD, signature_BTD = _kept(run.tap, "tap"), _kept(run.signature, "signature layer")
    return BasePass(output.logits, tap_BTD, signature_BTD, kept)


def run_trunk(attachment: Attachment, **inputs: Any) -> Tensor:
    """Run the layers below the tap only, filling their caches; return the states at the tap."""
    with attachment.listening(stop_at="tap") as run:
        attachment.model(**inputs)
    return _kept(run.tap, "tap")


@torch.no_grad()
def read_states(
    attachment: Attachment, input_ids: Tensor, attention_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return states at the tap and at the signature layer, running no layer above the higher one.

    Args:
        attachment: the model with its hooks.
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding.
    """
    last = "signature" if attachment.signature_layer >= attachment.tap else "tap"
    with attachment.listening(stop_at=last) as run:
        attachment.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    return _kept(run.tap, "tap"), _kept(run.signature, "signature layer")


def _kept(states: Tensor | None, where: str) -> Tensor:
    if states is None:
        raise UnsupportedError(f"the model's forward never reached the {where}")
    return states


def run_branch(
    attachment: Attachment,
    segments: Sequence[Segment],
    tap_BTD: Tensor,
    *,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    cache: DynamicCache | None = None,
    logits_to_keep: int = 0,
    head_reads_BT: Tensor | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Run the layers from the tap up, and the head, with a pool on; return its logits.

    A second ordinary call of the model's own forward: masks, rotary embeddings, windows, final
    norm, head and soft-capping stay the model's own code.

    Args:
        attachment: the model with its hooks.
        segments: the pool's segments; none gives the base's own upper layers, bit for bit.
        tap_BTD: states at the tap for the tokens in `input_ids`.
        input_ids: (B, T); only their number matters, since the embeddings are passed over.
        attention_mask: (B, past + T), or None.
        position_ids: (B or 1, T), always explicit.
        cache: the branch's own, from `branch_cache`; None: no cache.
        logits_to_keep: how many last positions get logits; 0: all.
        head_reads_BT: bool; the only positions that get logits, X of them in all, which then come
            as (1, X, V). In training most of what the head would say of facts counts for nothing.
        watch: told what each segment reads at each host layer.
    """
    inputs: dict[str, Any] = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        "cache": cache,
        "use_cache": cache is not None,
        "logits_to_keep": logits_to_keep,
    }
    accepted = accepted_arguments(attachment.model, inputs)
    with (
        attachment.branching(segments, tap_BTD, watch),
        _head_reading(attachment.model, head_reads_BT),
    ):
        output = attachment.model(**{key: inputs[key] for key in inputs if key in accepted})
    logits: Tensor = output.logits
    return logits[:, -logits_to_keep:]  # of all where the model could not be told


@contextmanager
def _head_reading(model: Any, head_reads_BT: Tensor | None) -> Iterator[None]:
    """Let the head read some positions only; what follows it works on each position alone."""
    if head_reads_BT is None:
        yield
        return

    def select(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][head_reads_BT].unsqueeze(0), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def default_position_ids(num_tokens: int, past: int, device: torch.device) -> Tensor:
    """Return the positions that a model gives tokens when the caller names none: (1, T)."""
    return torch.arange(past, past + num_tokens, device=device).unsqueeze(0)


def left_padded_positions(model: Any, attention_mask: Tensor | None) -> dict[str, Tensor]:
    """Return the positions that a padded batch needs, as the model's argument; else nothing.

    A model that is told none counts from a row's first place, padding or not. Where no row is
    padded on the left, that is right, and the call stays what it is.

    Args:
        model: the base; one without a place for positions (ALiBi) needs none.
        attention_mask: (B, T), 0 for padding.

    Returns: position_ids (B, T), from 0 at each row's first token.
    """
    if attention_mask is None or bool(attention_mask[:, 0].all()):
        return {}
    if not accepted_arguments(model, ["position_ids"]):
        return {}
    starts_B = attention_mask.bool().long().argmax(1)
    places_T = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return {"position_ids": (places_T - starts_B[:, None]).clamp_min(0)}


def branch_cache(
    config: Any, tap: int, own: Sequence[CacheLayerMixin] | None = None
) -> DynamicCache:
    """Return the cache of one branch: an empty one, or one around upper layers that exist.

    Layers below the tap never write to it. Their places hold the branch's own upper layers of the
    same kind, so that whoever asks "how long is layer 0" hears how far this branch has come.

    Args:
        config: the model's.
        tap: the first layer that runs in a branch.
        own: the branch's layers from the tap up; default: new, empty ones.
    """
    cache = DynamicCache(config=config)
    cache.layers[tap:] = own = list(cache.layers[tap:] if own is None else own)
    for number in range(tap):
        kind = type(cache.layers[number])
        cache.layers[number] = next((layer for layer in own if type(layer) is kind), own[0])
    return cache


def are_all_rows(rows: Tensor, num_rows: int) -> bool:
    """Return whether rows are all of a batch, in its order, so that none need be picked out.

    Args:
        rows: numbers of batch rows.
        num_rows: of the batch.

    Example:
        >>> are_all_rows(torch.tensor([0, 1]), 2), are_all_rows(torch.tensor([1, 0]), 2)
        (True, False)
    """
    return len(rows) == num_rows and rows.tolist() == list(range(num_rows))


def select_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Keep and order a cache's batch rows, in place; shared layers are moved once."""
    seen: set[int] = set()
    for layer in cache.layers:
        if id(layer) not in seen:
            seen.add(id(layer))
            layer.batch_select_indices(rows)


def logits_at(logits_BTV: Tensor, places_B: Tensor) -> Tensor:
    """Return each row's logits at a place of its own, (B, V).

    Args:
        logits_BTV: a forward's logits.
        places_B: int64, one position a row.
    """
    return logits_BTV[torch.arange(len(logits_BTV), device=logits_BTV.device), places_B]


def token_log_probs(logits_BTV: Tensor, input_ids: Tensor) -> Tensor:
    """Return the log probability of each token given those before it.

    Args:
        logits_BTV: a forward's logits.
        input_ids: (B, T).

    Returns:
        (B, T), fp64, nats; 0 for the first token, which nothing predicts.

    Example:
        >>> log_probs = token_log_probs(torch.zeros(1, 2, 4), torch.tensor([[3, 1]]))
        >>> log_probs.exp().round(decimals=6).tolist()
        [[1.0, 0.25]]
    """
    scores_BTV = logits_BTV[:, :-1].float()
    chosen_BT = scores_BTV.gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    log_probs_BT = (chosen_BT - scores_BTV.logsumexp(-1)).double()
    return torch.nn.functional.pad(log_probs_BT, (1, 0))


def row_log_probs(logits_RTV: Tensor, rows_R: Tensor, input_ids: Tensor) -> Tensor:
    """Return `token_log_probs` of a branch that ran on some rows: (B, T), 0 in all other rows.

    Args:
        logits_RTV: the branch's logits, one row of them for each of `rows_R`.
        rows_R: numbers of batch rows.
        input_ids: (B, T), of the whole batch.
    """
    log_probs_BT = input_ids.new_zeros(input_ids.shape, dtype=torch.float64)
    log_probs_BT[rows_R] = token_log_probs(logits_RTV, input_ids[rows_R])
    return log_probs_BT
