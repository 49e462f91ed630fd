"""Ordinary text: a new pool learns to say nothing to it.

A pool that is trained on its domain alone speaks everywhere: always on, it makes prose worse by
half a nat a token. So when a store is made, two things are kept of its calibration texts. A sample
of what the base's feed-forwards read: each training step pulls the pool's answer to some of it
towards nothing, at the cost of no pass through the base. And how the texts begin: where a run asks
for it, each step reads one beginning with the pool on, and pulls its predictions towards the base's
own.

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
from peer_cl.choice import divergence
from peer_cl.errors import DamageError
from peer_cl.pool import Segment
from pipelines.batches import group_by_length, pad
from pipelines.precision import reading
from pipelines.progress import Progress

NUM_TOKENS = 2048
"""How many tokens' inputs are kept, drawn from all calibration texts alike."""
EARLY = 12
"""So many tokens begin a text, and half of those that are kept are of them: nearly all that a pool
spoils of prose it spoils in the first dozen tokens. The start token before them is left alone: it
is the same in the domain's own texts, and a pool that must be silent there learns less."""
BEGINNING = 49
"""How much of each text is read and kept, in tokens, the start token among them."""
TOKENS_PER_PASS = 1024


@dataclass(frozen=True)
class OrdinaryText:
    """What feed-forwards read in ordinary text, and how such text begins."""

    inputs: Mapping[int, Tensor]
    """By host layer, (X, D), half precision."""
    beginnings: tuple[tuple[int, ...], ...] = ()
    """Token ids, the start token first; none in stores that were made before they were kept."""

    def to_bytes(self) -> bytes:
        """Return all of it as safetensors bytes."""
        tensors = {f"layer.{n}": one.contiguous() for n, one in self.inputs.items()}
        if self.beginnings:
            tensors["beginnings"] = torch.tensor([n for row in self.beginnings for n in row])
            tensors["lengths"] = torch.tensor([len(row) for row in self.beginnings])
        return save(tensors)

    @staticmethod
    def from_bytes(data: bytes) -> OrdinaryText:
        """Return what `to_bytes` wrote.

        Raises: DamageError: when the bytes cannot be read.
        """
        try:
            tensors = load(data)
            lengths = tensors.pop("lengths", torch.empty(0, dtype=torch.long)).tolist()
            ids = tensors.pop("beginnings", torch.empty(0, dtype=torch.long))
            beginnings = tuple(tuple(row.tolist()) for row in ids.split(lengths) if len(row))
            inputs = {int(n.removeprefix("layer.")): t for n, t in tensors.items()}
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise DamageError(f"ordinary text cannot be read: {error}") from error
        return OrdinaryText(inputs, beginnings)

    def kept(self) -> dict[int, dict[int, int]]:
        """Return which tokens of which beginnings `inputs` are of.

        By number of the beginning, and place of the token in it, the row in each layer's inputs;
        beginnings of which none is kept are left out. Empty where no beginnings are kept.
        """
        tokens, chosen = _read_and_chosen(self.beginnings)
        found: dict[int, dict[int, int]] = {}
        for number, token in enumerate(chosen.tolist()):
            text, place = tokens[token]
            found.setdefault(text, {})[place] = number
        return found

    def beginning(self, seed: int, step: int) -> tuple[int, ...] | None:
        """Return how some text begins, the same for a step whoever asks; None: none is kept."""
        if not self.beginnings:
            return None
        return self.beginnings[int(_draw(len(self.beginnings), 1, seed, step))]

    def sample(self, layer: int, num: int, seed: int, step: int) -> Tensor | None:
        """Return some inputs of a layer, fp32; the same for a step whoever asks and however often.

        None for a layer of which none are kept.
        """
        known = self.inputs.get(layer)
        if known is None:
            return None
        return known[_draw(len(known), num, seed, step)].float()


def _draw(below: int, num: int, seed: int, step: int) -> Tensor:
    """Return numbers below a limit that depend on seed and step alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randint(below, (num,), generator=generator)


def apart_from_base(base_LV: Tensor, own_LV: Tensor) -> Tensor:
    """Return how far predictions in a beginning are from the base's, nats, mean over tokens.

    After the start token the base expects what is wrong for most texts: nothing to keep.

    Args:
        base_LV: the base's logits, the start token's first.
        own_LV: those that are to be like them.
    """
    far_L = divergence(base_LV, own_LV)[1:]
    return far_L.sum() / max(1, len(far_L))


def answer_to_ordinary(
    segment: Segment, ordinary: OrdinaryText, num: int, seed: int, step: int
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
) -> OrdinaryText:
    """Return a sample of what host layers read in texts, and how each begins.

    Args:
        attachment: the base with its hooks.
        rows: texts as token ids, the start token first.
        host_layers: whose inputs are kept.
        progress: told how many texts are read.
        precision: of the base's products.
    """
    found: dict[int, list[Tensor]] = {layer: [] for layer in host_layers}
    rows = [row[:BEGINNING] for row in rows]
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
            for layer in host_layers:
                kept_XD = base.feed_forward_BTD[layer][mask_BT.bool()]
                found[layer].append(kept_XD.half())
            done += len(group)
            progress("reading ordinary text", done, len(rows), "")
    _, chosen = _read_and_chosen(rows)
    inputs = {layer: torch.cat(own)[chosen] for layer, own in found.items()}
    return OrdinaryText(inputs, tuple(map(tuple, rows)))


def _read_and_chosen(rows: Sequence[Sequence[int]]) -> tuple[list[tuple[int, int]], Tensor]:
    """Return all tokens but start tokens in the order in which they are read, each as (number of
    its text, place in it), and which of these are kept: half of them early ones where there are.

    What stores keep lies in this order.
    """
    groups = group_by_length([len(row) for row in rows], TOKENS_PER_PASS)
    order = [text for group in groups for text in group]
    tokens = [(text, place) for text in order for place in range(1, len(rows[text]))]
    is_early_X = torch.tensor([place <= EARLY for _, place in tokens], dtype=torch.bool)
    draw = torch.Generator().manual_seed(0)
    order_X = torch.randperm(len(is_early_X), generator=draw)
    kept = [order_X[is_early_X[order_X] == early][: NUM_TOKENS // 2] for early in (True, False)]
    return tokens, torch.cat(kept).sort().values
