"""What host layers read in ordinary text: a new pool learns to say nothing to it.

A pool that is trained on its domain alone speaks everywhere: always on, it makes prose worse by
half a nat a token. So a sample of what the base's feed-forwards read in calibration text is kept
when a store is made, and each training step also pulls the pool's answer to some of it towards
nothing. That costs no pass through the base.

Shape suffixes: X tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import run_base
from peer_cl.errors import DamageError
from peer_cl.pool import Segment
from pipelines.batches import group_by_length, pad
from pipelines.precision import reading
from pipelines.progress import Progress

NUM_TOKENS = 4096
"""How many tokens' inputs are kept, drawn from all calibration texts alike."""
TOKENS_A_TEXT = 48
"""How much of each text is read for them."""
EARLY = 12
"""So many tokens begin a text, and half of those that are kept are of them: nearly all that a pool
spoils of prose it spoils in the first dozen tokens. The start token before them is left alone: it
is the same in the domain's own texts, and a pool that must be silent there learns less."""
TOKENS_PER_PASS = 1024


@dataclass(frozen=True)
class OrdinaryInputs:
    """What feed-forwards read in ordinary text."""

    inputs: Mapping[int, Tensor]
    """By host layer, (X, D), half precision."""

    def to_bytes(self) -> bytes:
        """Return the inputs as safetensors bytes."""
        return save({f"layer.{n}": one.contiguous() for n, one in self.inputs.items()})

    @staticmethod
    def from_bytes(data: bytes) -> OrdinaryInputs:
        """Return the inputs that `to_bytes` wrote.

        Raises: DamageError: when the bytes cannot be read.
        """
        try:
            tensors = load(data)
            return OrdinaryInputs({int(n.removeprefix("layer.")): t for n, t in tensors.items()})
        except (SafetensorError, ValueError) as error:
            raise DamageError(f"inputs of ordinary text cannot be read: {error}") from error

    def sample(self, layer: int, num: int, seed: int, step: int) -> Tensor | None:
        """Return some inputs of a layer, fp32; the same for a step whoever asks and however often.

        None for a layer of which none are kept.
        """
        known = self.inputs.get(layer)
        if known is None:
            return None
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return known[torch.randint(len(known), (num,), generator=draw)].float()


def answer_to_ordinary(
    segment: Segment, ordinary: OrdinaryInputs, num: int, seed: int, step: int
) -> Tensor:
    """Return how loudly a segment answers ordinary text: the squared length of what it adds, mean
    over tokens, summed over its host layers.

    Args:
        segment: with gradients.
        ordinary: what its layers read there.
        num: tokens drawn for this step.
        seed: of the run.
        step: of the run.
    """
    device = next(segment.parameters()).device
    loud = torch.zeros((), device=device)
    for layer in segment.host_layers:
        inputs_XD = ordinary.sample(layer, num, seed, step)
        if inputs_XD is not None:
            loud = loud + segment.layer(layer)(inputs_XD.to(device)).square().sum(-1).mean()
    return loud


def read_ordinary(
    attachment: Attachment,
    rows: Sequence[Sequence[int]],
    host_layers: Sequence[int],
    progress: Progress,
    *,
    precision: str,
) -> OrdinaryInputs:
    """Return a sample of what host layers read in texts.

    Args:
        attachment: the base with its hooks.
        rows: texts as token ids, the start token first.
        host_layers: whose inputs are kept.
        progress: told how many texts are read.
        precision: of the base's products.
    """
    found: dict[int, list[Tensor]] = {layer: [] for layer in host_layers}
    early: list[Tensor] = []
    rows = [row[: TOKENS_A_TEXT + 1] for row in rows]
    done = 0
    with reading(attachment.model, precision):
        for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
            base = run_base(
                attachment,
                reads=host_layers,
                input_ids=ids_BT,
                attention_mask=mask_BT,
                use_cache=False,
            )
            mask_BT[:, 0] = 0
            places_BT = torch.arange(mask_BT.shape[1]).expand_as(mask_BT)
            early.append(places_BT[mask_BT.bool()] <= EARLY)
            for layer in host_layers:
                kept_XD = base.feed_forward_BTD[layer][mask_BT.bool()]
                found[layer].append(kept_XD.half())
            done += len(group)
            progress("reading ordinary text", done, len(rows), "")
    chosen = _chosen(torch.cat(early))
    return OrdinaryInputs({layer: torch.cat(own)[chosen] for layer, own in found.items()})


def _chosen(is_early_X: Tensor) -> Tensor:
    """Return the numbers of the tokens that are kept, half of them early ones where there are."""
    draw = torch.Generator().manual_seed(0)
    order_X = torch.randperm(len(is_early_X), generator=draw)
    kept = [order_X[is_early_X[order_X] == early][: NUM_TOKENS // 2] for early in (True, False)]
    return torch.cat(kept).sort().values
