"""What the base makes of the documents that a segment is to learn, read once.

The base's pass over the documents gives three things: states at the signature layer, from which the
domain's signature is made; states at the tap, from which every branch starts; and the base's loss
on each row. States at the tap are kept on disk where the tap is high enough that reading them back
beats running the trunk again.

Shape suffixes: B rows, T tokens, D width.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import run_base, token_log_probs
from peer_cl.errors import InputError
from peer_cl.scoring import evidence_tokens
from pipelines.batches import Row, group_by_length, pad
from pipelines.precision import reading

PAYS_FROM = 0.05
"""Share of the depth below the tap from which keeping its states on disk pays."""
MOST_SIGNATURE_TOKENS = 2**18
"""Of a larger corpus every n-th token of a row is kept for its signature: k-means looks at fewer,
and all of two million tokens' states would take 5 GB of memory."""


@dataclass(frozen=True)
class Features:
    """States at the tap of every row, on disk or to be computed again."""

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    states_XD: np.memmap | None
    """All rows' states, one after the other; None where the trunk is run again instead."""
    base_nats: tuple[float, ...]
    """The base's loss on each row, summed over its tokens, the end token left out."""

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
    end_id: int | None = None,
    precision: str = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Features, list[Tensor]]:
    """Run the base over all rows once; return what is kept, and the states for signatures.

    Args:
        attachment: the base with its hooks.
        rows: what is to be learned.
        folder: on whose disk the states go.
        tokens_per_step: padded tokens a pass.
        end_id: the token at the end of a document, no part of its text.
        precision: of the base's products, "fp32" or "bf16".
        progress: told (rows done, rows in all).

    Returns:
        the features, and for each row its states (T - 1, D) at the signature layer, the start
        token left out; thinned where there are more than MOST_SIGNATURE_TOKENS.

    Raises: InputError: when the disk has no room for the states at the tap.
    """
    lengths = tuple(len(row.ids) for row in rows)
    offsets = tuple(int(x) for x in np.cumsum((0, *lengths[:-1])))
    pays = attachment.tap >= PAYS_FROM * len(attachment.layers)
    states_XD = None
    if pays:
        states_XD = _mapped(folder, (sum(lengths), attachment.width))
    every = -(-sum(lengths) // MOST_SIGNATURE_TOKENS)
    signature: list[Tensor] = [torch.empty(0)] * len(rows)
    base_nats = [0.0] * len(rows)
    done = 0
    with reading(attachment.model, precision):
        for group in group_by_length(lengths, tokens_per_step):
            ids_BT, mask_BT = pad([rows[number].ids for number in group], pad_id=0)
            base = run_base(attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
            nats_BT = text_nats(base.logits_BTV, ids_BT, mask_BT, end_id)
            for place, number in enumerate(group):
                size, start = lengths[number], offsets[number]
                if states_XD is not None:
                    states_XD[start : start + size] = base.tap_BTD[place, :size].float().numpy()
                signature[number] = base.signature_BTD[place, 1:size:every].float().clone()
                base_nats[number] = float(nats_BT[place].sum())
            done += len(group)
            progress(done, len(rows))
    return Features(offsets, lengths, states_XD, tuple(base_nats)), signature


def _mapped(folder: Path, shape: tuple[int, int]) -> np.memmap:
    """Return zeros on disk, of this run alone, that are gone with the process, also if killed.

    Raises: InputError: when the disk has no room for them.
    """
    path = folder / f"tap-{uuid.uuid4().hex}.f32"
    try:
        _reserve(path, 4 * math.prod(shape))
        return np.memmap(path, np.float32, "r+", shape=shape)
    finally:
        path.unlink(missing_ok=True)  # what is mapped stays; nobody else can open it


def _reserve(path: Path, num_bytes: int) -> None:
    """Make a file of so many bytes, all of them on the disk: no mapped write can fail later.

    A write into a mapped file that finds the disk full ends the process without a word.

    Raises: InputError: when the disk has no room for it.
    """
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            free = shutil.disk_usage(path.parent).free
            raise InputError(
                f"{path.parent} has {free:,} bytes left, and what the base makes of this corpus "
                f"takes {num_bytes:,} while it is learned: make room, or learn it in parts"
            ) from None


def text_nats(logits_BTV: Tensor, ids_BT: Tensor, mask_BT: Tensor, end_id: int | None) -> Tensor:
    """Return the loss of each token of text, (B, T), fp64; 0 for the start, the end and padding."""
    text_BT = is_text(ids_BT, mask_BT, end_id)
    return torch.where(text_BT, -token_log_probs(logits_BTV, ids_BT), 0.0)


def is_text(ids_BT: Tensor, mask_BT: Tensor, end_id: int | None) -> Tensor:
    """Return which tokens are a document's own: neither its start, nor its end, nor padding.

    Example:
        >>> ids = torch.tensor([[0, 5, 6, 0], [0, 7, 0, 0]])
        >>> is_text(ids, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), end_id=0).tolist()
        [[False, True, True, False], [False, True, False, False]]
    """
    special_ids = torch.tensor([] if end_id is None else [end_id], dtype=torch.long)
    return evidence_tokens(ids_BT, mask_BT, special_ids)
