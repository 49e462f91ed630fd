"""Which tokens of a text use one row, and how loudly it answers.

Shape suffixes: B = 1 row, T tokens, D width, C rows chosen by all heads of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from peer_cl.branches import default_position_ids, run_base
from peer_cl.errors import UnknownError
from peer_cl.inputs import check_room
from peer_cl.model import PeerModel
from peer_cl.usage import Fired, UsageWatch
from pipelines.batches import tokenise
from pipelines.documents import composed_text
from pipelines.tracing import check_domains, learned_segments
from stores import Snapshot

if TYPE_CHECKING:
    from pipelines.store import Store


@dataclass(frozen=True)
class RowToken:
    """A token that was read, and what the row made of it."""

    text: str
    following: str
    """The token after it, which the row helps to predict; empty at the end."""
    weight: float
    """The router's, summed over heads; 0 where no head chose the row."""
    strength: float
    """L2 norm of what the row adds to its layer's output."""


def row_tokens(
    store: Store,
    text: str,
    *,
    domain: str,
    segment_id: str,
    host_layer: int,
    row: int,
    model: PeerModel,
    tokenizer: Any,
    snapshot: Snapshot,
) -> list[RowToken]:
    """Return every token of a text, with how much it uses a row when its pool is on.

    Args:
        store: an open store.
        text: some text.
        domain: whose pool is run, whether the text asks it or not.
        segment_id: of the domain's chain.
        host_layer: the row's.
        row: its number.
        model: of `snapshot`, with its pools.
        tokenizer: the base's.
        snapshot: which one the model is of.

    Raises:
        InputError: when the text is longer than the base's context.
        UnknownError: when the domain has no such segment, or no rows at that layer.
        StateError: when the domain is not live, or disabled.
    """
    check_domains(store.registry, snapshot, [domain])
    ids_BT = torch.tensor(tokenise(tokenizer, [composed_text(text)]))  # as what was learned is
    check_room(model.base, ids_BT.shape[1])
    segment = learned_segments(store.registry, snapshot, model, domain).get(segment_id)
    found = [
        fired
        for fired in _fired(model, domain, ids_BT)
        if fired.segment is segment and fired.host_layer == host_layer
    ]
    if not found:
        raise UnknownError(f"{domain} has no rows at layer {host_layer} in segment {segment_id}")
    chosen_TC = found[0].ids_TC == row
    weights_T = torch.where(chosen_TC, found[0].weights_TC, 0.0).sum(-1)
    strengths_T = torch.where(chosen_TC, found[0].strengths_TC, 0.0).sum(-1)
    words = [str(tokenizer.decode([token])) for token in ids_BT[0].tolist()]
    return [
        RowToken(*about)
        for about in zip(
            words, [*words[1:], ""], weights_T.tolist(), strengths_T.tolist(), strict=True
        )
    ]


@torch.no_grad()
def _fired(model: PeerModel, domain: str, ids_BT: torch.Tensor) -> list[Fired]:
    """Return what a domain's rows do when they are run over a text."""
    watch = UsageWatch()
    base = run_base(model.attachment, input_ids=ids_BT, use_cache=False)
    positions = default_position_ids(ids_BT.shape[1], 0, ids_BT.device)
    model.branch_logits(
        domain, base.tap_BTD, torch.tensor([0]), ids_BT, None, positions, watch=watch
    )
    return watch.fired
