"""Own experts: single neurons that belong to one item each.

An item is a fact, or a passage of a document. Its experts are trained on it alone, so they are a
function of the base, the settings and the item, and taking the item out is deleting them. Which
item is active at which token is the router's answer (`peer_cl.items`, `peer_cl.passages`): at most
one of a domain at a time.

Shape suffixes: I items, L host layers, R experts an item and layer, D width, B rows, T tokens,
X places at which an item is active, K relation keys of an item, U units of an item, E width of the
relation space, or of the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peer_cl.bases import BaseIdentity, seal, unseal

FORMAT = "peer-cl-own-experts-6"
OUTPUT_SCALE = 4.0
"""Factor on what an item's experts add, as for shared experts."""
NO_ITEM = -1


@dataclass(frozen=True)
class Item:
    """Whose experts they are, and what the router finds them by."""

    item_id: str
    """The document's; passages of one document share it."""
    subjects: tuple[tuple[int, ...], ...] = ()
    """Of a fact, token ids of the subject as it may be written: after a blank, at a text's
    beginning."""
    num_answer: int = 0
    """Of a fact: in scored text it stays active for so many tokens."""
    title: str = ""
    """Of its document, as far as it says what a passage is about."""
    units: tuple[str, ...] = ()
    """What of it an answer quotes: a fact's statement, a passage's sentences and tables' rows."""
    questions: tuple[tuple[str, str, str], ...] = ()
    """Of a passage: what it was taught to answer, as question, answer and who made it,"""
    kept: tuple[tuple[str, str, str], ...] = ()
    """and what is kept to be asked."""


class OwnExperts(nn.Module):
    """The own experts of one ingest's facts, or of its passages.

    Args:
        items: whose experts they are.
        relations_IKE: each fact's keys in the base's space of relations, of length one; of
            passages, K is 0.
        texts: each passage's token ids, int32, the start token first and its title before it: what
            the router finds it by; of facts, none.
        vectors: of each item, its units as the encoder's vectors, then those of its questions that
            people asked, fp16 (U, E).
        host_layers: the decoder layers that carry them, ascending.
        width: D of the base.
        num_experts: R.
        weights: learned ones, down and up (I, L, R, D), frozen; default: zeros, to be learned.
    """

    def __init__(
        self,
        items: Sequence[Item],
        relations_IKE: Tensor,
        texts: Sequence[Tensor] = (),
        vectors: Sequence[Tensor] = (),
        *,
        host_layers: Sequence[int],
        width: int,
        num_experts: int,
        weights: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.items, self.host_layers = tuple(items), tuple(host_layers)
        self.width, self.num_experts = width, num_experts
        shape = (len(self.items), len(self.host_layers), num_experts, width)
        self.register_buffer("relations_IKE", relations_IKE)
        self.texts, self.vectors = tuple(texts), tuple(vectors)
        down_ILRD, up_ILRD = weights or (torch.zeros(shape), torch.zeros(shape))
        self.down_ILRD = nn.Parameter(down_ILRD, requires_grad=weights is None)
        self.up_ILRD = nn.Parameter(up_ILRD, requires_grad=weights is None)

    relations_IKE: Tensor

    def reset_item(self, place: int, seed: int) -> None:
        """Initialise the experts of one item from its own seed; they add nothing yet."""
        generator = torch.Generator().manual_seed(seed)
        # Drawn on the CPU, so that every device begins alike.
        drawn_LRD = torch.randn(self.down_ILRD.shape[1:], generator=generator)
        with torch.no_grad():
            self.up_ILRD[place] = 0
            self.down_ILRD[place] = (drawn_LRD / math.sqrt(self.width)).to(self.down_ILRD.device)

    def forward(self, inputs_BTD: Tensor, host_layer: int, items_BT: Tensor) -> Tensor:
        """Return what active items add at a host layer: (B, T, D), dtype of the inputs.

        Args:
            inputs_BTD: what the feed-forward reads.
            host_layer: one of those that carry own experts.
            items_BT: int64; the number of the item that is active at a token, `NO_ITEM` for none.

        To the bit it depends neither on other places nor on other items. Cost: O(R*D) for each
        token at which an item is active, whatever the number of items.
        """
        place, added_BTD = self.host_layers.index(host_layer), torch.zeros_like(inputs_BTD)
        for item in items_BT.unique().tolist():
            if item < 0:
                continue
            active_BT = items_BT == item
            # Experts compute in fp32, whatever the base around them runs in.
            with torch.autocast(inputs_BTD.device.type, enabled=False):
                inputs_X1D = inputs_BTD[active_BT].float()[:, None]
                down_RD, up_RD = (
                    self.down_ILRD[item, place].float(),
                    self.up_ILRD[item, place].float(),
                )
                # No matrix product: its rounding may depend on how many places there are.
                hidden_XR = functional.gelu((inputs_X1D * down_RD).sum(-1))
                out_XD = (hidden_XR[..., None] * up_RD).sum(1) * OUTPUT_SCALE
            added_BTD[active_BT] = out_XD.to(added_BTD.dtype)
        return added_BTD

    def read_alike(self, inputs_BTD: Tensor, host_layer: int, items_BT: Tensor) -> Tensor:
        """Return what `forward` does, up to rounding, in a tenth of the time: for training.

        Rows must be of one item each, equally many of every item, in the items' order. The shape of
        the batch decides how a product is rounded, and no other item.
        """
        place, num_items = self.host_layers.index(host_layer), len(self.items)
        with torch.autocast(inputs_BTD.device.type, enabled=False):
            inputs_IXD = inputs_BTD.float().reshape(num_items, -1, self.width)
            down_IRD, up_IRD = self.down_ILRD[:, place].float(), self.up_ILRD[:, place].float()
            hidden_IXR = functional.gelu(inputs_IXD @ down_IRD.transpose(1, 2))
            out_BTD = (hidden_IXR @ up_IRD * OUTPUT_SCALE).view(inputs_BTD.shape)
        return torch.where(items_BT[..., None] >= 0, out_BTD, 0.0).to(inputs_BTD.dtype)

    def without(self, item_ids: Collection[str]) -> OwnExperts | None:
        """Return the experts of the other items, in their bits; None where none is left."""
        places = [n for n, item in enumerate(self.items) if item.item_id not in item_ids]
        return self.at(places) if places else None

    def at(self, places: Sequence[int]) -> OwnExperts:
        """Return the experts of some items, in their bits."""
        return OwnExperts(
            [self.items[n] for n in places],
            self.relations_IKE[places],
            [self.texts[n] for n in places] if self.texts else (),
            [self.vectors[n] for n in places] if self.vectors else (),
            host_layers=self.host_layers,
            width=self.width,
            num_experts=self.num_experts,
            weights=(self.down_ILRD.detach()[places], self.up_ILRD.detach()[places]),
        )

    def to_bytes(self, identity: BaseIdentity) -> bytes:
        """Return safetensors bytes for the base they were trained on; equal experts, equal bytes.

        Weights are kept in bf16, relation keys in fp16: so they are rounded when they are made.
        """
        about = {
            "format": FORMAT,
            "width": self.width,
            "host_layers": list(self.host_layers),
            "num_experts": self.num_experts,
            "items": [
                [
                    one.item_id,
                    one.subjects,
                    one.num_answer,
                    one.title,
                    one.units,
                    one.questions,
                    one.kept,
                ]
                for one in self.items
            ],
        }
        tensors = {
            "down": self.down_ILRD.bfloat16(),
            "num_vectors": torch.tensor([len(one) for one in self.vectors], dtype=torch.long),
            "num_tokens": torch.tensor([len(one) for one in self.texts], dtype=torch.long),
            "relations": self.relations_IKE.half(),
            "texts": torch.cat([torch.empty(0, dtype=torch.int32), *self.texts]),
            "up": self.up_ILRD.bfloat16(),
            "vectors": torch.cat([torch.empty(0, dtype=torch.half), *self.vectors]),
        }
        tensors = {key: one.detach().cpu().contiguous() for key, one in tensors.items()}
        return seal("own", about, tensors, identity)


def joined(lists: Sequence[OwnExperts]) -> OwnExperts:
    """Return the experts of several lists of one kind as one, in their bits."""
    first = lists[0]
    if len(lists) == 1:
        return first
    return OwnExperts(
        [item for one in lists for item in one.items],
        torch.cat([one.relations_IKE for one in lists]),
        [text for one in lists for text in one.texts],
        [vectors_UE for one in lists for vectors_UE in one.vectors],
        host_layers=first.host_layers,
        width=first.width,
        num_experts=first.num_experts,
        weights=(
            torch.cat([one.down_ILRD.detach() for one in lists]),
            torch.cat([one.up_ILRD.detach() for one in lists]),
        ),
    )


def _tuples(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, rows))


def load_own(
    data: bytes | Path, identity: BaseIdentity, *, name: str = "own experts"
) -> OwnExperts:
    """Return the own experts in bytes that `OwnExperts.to_bytes` wrote.

    Of a file that holds such, already verified, an item's experts are read when it is active.

    Raises:
        DamageError: when these are none, or any byte changed since they were written.
        BaseMismatchError: when they were trained for another base or tokenizer.
    """
    about, tensors = unseal(data, "own", FORMAT, identity, name=name, what="own experts")
    items = [
        Item(
            item_id,
            _tuples(subjects),
            num_answer,
            title,
            tuple(units),
            _tuples(questions),
            _tuples(kept),
        )
        for item_id, subjects, num_answer, title, units, questions, kept in about["items"]
    ]
    return OwnExperts(
        items,
        tensors["relations"],
        tensors["texts"].split(tensors["num_tokens"].tolist()),
        tensors["vectors"].split(tensors["num_vectors"].tolist()),
        host_layers=about["host_layers"],
        width=about["width"],
        num_experts=about["num_experts"],
        weights=(tensors["down"], tensors["up"]),
    )
