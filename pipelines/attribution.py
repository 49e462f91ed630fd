"""What each row is worth to a text: what its loss would rise by without the row, to first order.

The derivative of the loss by a factor on what the row adds, at one. Use alone says less: a row may
fire often and change nothing, or make worse what others mend.

Shape suffixes: N rows, D width, B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from peer_cl.branches import default_position_ids, run_branch, run_trunk, token_log_probs
from peer_cl.model import PeerModel
from peer_cl.pool import Segment


def row_costs(
    model: PeerModel, segments: Mapping[str, Segment], ids: Sequence[int]
) -> dict[tuple[str, int], Tensor]:
    """Return what switching each row off would cost a text, the pool forced on.

    Args:
        model: the store's; its own pools are not used.
        segments: of one domain, by id, the oldest first.
        ids: the text's tokens, the start token first.

    Returns: by segment and host layer, nats in all, (N,); positive = the text needs the row.
    Cost: a pass of the branch forwards and backwards.
    """
    ups = {
        (segment_id, layer): segment.layer(layer).experts.up_ND
        for segment_id, segment in segments.items()
        for layer in segment.host_layers
    }
    flags = [up_ND.requires_grad for up_ND in ups.values()]
    ids_BT = torch.tensor([list(ids)])
    mask_BT = torch.ones_like(ids_BT)
    try:
        for up_ND in ups.values():
            up_ND.requires_grad_(True)
        with model.attachment.frozen(), torch.enable_grad():
            nats = branch_nats(model, list(segments.values()), ids_BT, mask_BT).sum()
            grads = torch.autograd.grad(nats, list(ups.values()))
    finally:
        for up_ND, flag in zip(ups.values(), flags, strict=True):
            up_ND.requires_grad_(flag)
    return {
        place: -(up_ND.detach() * grad_ND).sum(-1)
        for (place, up_ND), grad_ND in zip(ups.items(), grads, strict=True)
    }


def branch_nats(
    model: PeerModel, segments: Sequence[Segment], ids_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """Return each text's loss with a pool forced on, summed over its tokens, nats, (B,).

    Args:
        model: the store's; its own pools are not used.
        segments: the pool's, the oldest first.
        ids_BT: the start token first.
        mask_BT: 0 for padding.
    """
    with torch.no_grad():
        tap_BTD = run_trunk(
            model.attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
        )
    logits_BTV = run_branch(
        model.attachment,
        segments,
        tap_BTD,
        input_ids=ids_BT,
        attention_mask=mask_BT,
        position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
    )
    return -(token_log_probs(logits_BTV, ids_BT) * mask_BT).sum(-1)
