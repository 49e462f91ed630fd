"""What the base makes of the documents that a segment is to learn, read once.

The base's pass over the documents gives two things: states at the signature layer, from which the
domain's signature is made, and states at the tap, from which every branch starts. The latter are
kept on disk where the tap is high enough that reading them back beats running the trunk again.

Shape suffixes: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import read_states
from pipelines.batches import Row, group_by_length, pad
from pipelines.precision import reading

TAP_FILE = "tap.f32"
"""The file of states, in a store's staging folder."""
PAYS_FROM = 0.05
"""Share of the depth below the tap from which keeping its states on disk pays."""


@dataclass(frozen=True)
class Features:
    """States at the tap of every row, on disk or to be computed again."""

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    states_XD: np.memmap | None
    """All rows' states, one after the other; None where the trunk is run again instead."""

    def tap_states(self, rows: Sequence[int], length: int) -> Tensor | None:
        """Return states (B, T, D) of some rows, padded with zeros; None where any is not kept."""
        if self.states_XD is None or max(rows) >= len(self.lengths):
            return None
        states_BTD = torch.zeros(len(rows), length, self.states_XD.shape[1])
        for place, row in enumerate(rows):
            start, size = self.offsets[row], self.lengths[row]
            states_BTD[place, :size] = torch.from_numpy(
                np.array(self.states_XD[start : start + size])
            )
        return states_BTD


def read_features(
    attachment: Attachment,
    rows: Sequence[Row],
    *,
    folder: Path,
    tokens_per_step: int,
    precision: str = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Features, list[Tensor]]:
    """Run the base over all rows once; return what is kept, and the states for signatures.

    Args:
        attachment: the base with its hooks.
        rows: what is to be learned.
        folder: where the file of states goes.
        tokens_per_step: padded tokens a pass.
        precision: of the base's products, "fp32" or "bf16".
        progress: told (rows done, rows in all).

    Returns:
        the features, and for each row its states (T - 1, D) at the signature layer, the start
        token left out.
    """
    lengths = tuple(len(row.ids) for row in rows)
    offsets = tuple(int(x) for x in np.cumsum((0, *lengths[:-1])))
    pays = attachment.tap >= PAYS_FROM * len(attachment.layers)
    states_XD = None
    if pays:
        states_XD = np.memmap(
            folder / TAP_FILE, np.float32, "w+", shape=(sum(lengths), attachment.width)
        )
    signature: list[Tensor] = [torch.empty(0)] * len(rows)
    done = 0
    with reading(attachment.model, precision):
        for group in group_by_length(lengths, tokens_per_step):
            ids_BT, mask_BT = pad([rows[number].ids for number in group], pad_id=0)
            tap_BTD, signature_BTD = read_states(attachment, ids_BT, mask_BT)
            for place, number in enumerate(group):
                size, start = lengths[number], offsets[number]
                if states_XD is not None:
                    states_XD[start : start + size] = tap_BTD[place, :size].float().numpy()
                signature[number] = signature_BTD[place, 1:size].float().clone()
            done += len(group)
            progress(done, len(rows))
    return Features(offsets, lengths, states_XD), signature
