"""States of many texts at the signature layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import read_states
from pipelines.batches import group_by_length, pad
from pipelines.precision import reading
from pipelines.progress import Progress

TOKENS_PER_PASS = 2048


def signature_states(
    attachment: Attachment,
    rows: Sequence[Sequence[int]],
    what: str,
    progress: Progress,
    *,
    precision: str = "fp32",
) -> list[Tensor]:
    """Return each row's states (T - 1, D) at the signature layer, the start token left out.

    Args:
        attachment: the base with its hooks.
        rows: token ids, the start token first.
        what: named in the progress.
        progress: told how many rows are done.
        precision: of the base's products, "fp32" or "bf16".
    """
    states: list[Tensor] = [torch.empty(0)] * len(rows)
    done = 0
    with reading(attachment.model, precision):
        for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
            _, signature_BTD = read_states(attachment, ids_BT, mask_BT)
            for place, number in enumerate(group):
                states[number] = signature_BTD[place, 1 : len(rows[number])].float().clone()
            done += len(group)
            progress(what, done, len(rows), "")
    return states
