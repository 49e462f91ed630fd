"""Whether a base still computes what it computed when a store was made.

Hashes name its weights and its tokenizer. What `config.json` says beside them (an activation, the
rotary base) is in no hash, since each version of transformers writes that file in its own way. So
the base reads a few of the ordinary texts that the store keeps, and what its host layers read there
is held against what they read then.

Shape suffixes: B texts, T tokens, X kept tokens, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import run_base
from peer_cl.errors import BaseMismatchError
from pipelines.batches import pad
from pipelines.ordinary import OrdinaryText

NUM_TEXTS = 2
"""How many of the texts are read: those of which most tokens are kept."""
FARTHEST = 0.05
"""Relative change of a layer's inputs from which a base is another one. Another precision changes
them by a hundredth; see docs/decisions/0024."""


def check_computes(attachment: Attachment, ordinary: OrdinaryText, what: str) -> None:
    """Refuse a base that has its old weights and computes something else with them.

    Args:
        attachment: the base with its hooks; no pool speaks.
        ordinary: what the store keeps of ordinary text; nothing is checked where that is not how
            texts begin.
        what: what was made with the base, for the message.

    Raises: BaseMismatchError: naming the layer that reads something else, and how far it is.
    """
    for layer, change in change_in_ordinary(attachment, ordinary).items():
        if not change <= FARTHEST:  # what is no number is no base either
            raise BaseMismatchError(
                f"{what} was made for a base that has these weights and computes something else: "
                f"layer {layer} reads ordinary text {change:.0%} differently; undo what was "
                "changed in the base's config.json (an activation, the rotary base), or load it "
                "with the version of transformers that the store was made with"
            )


def change_in_ordinary(attachment: Attachment, ordinary: OrdinaryText) -> dict[int, float]:
    """Return by host layer, ascending, how far what it reads in ordinary text is from what it read.

    That is the length of the difference over the length of what was read, over some texts' kept
    tokens: 0 for the same. Empty where nothing is kept to compare with.

    Args:
        attachment: the base with its hooks; no pool speaks.
        ordinary: what the store keeps of ordinary text.
    """
    kept = sorted(ordinary.kept().items(), key=lambda item: (-len(item[1]), item[0]))[:NUM_TEXTS]
    if not kept:
        return {}
    ids_BT, mask_BT = pad([ordinary.beginnings[text] for text, _ in kept], pad_id=0)
    layers = sorted(ordinary.inputs)
    with torch.no_grad():
        read = run_base(
            attachment,
            reads=layers,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            use_cache=False,
        ).feed_forward_BTD
    numbers_X = [number for _, own in kept for number in own.values()]
    rows_X = [row for row, (_, own) in enumerate(kept) for _ in own]
    places_X = [place for _, own in kept for place in own]
    return {
        layer: _change(ordinary.inputs[layer][numbers_X], read[layer][rows_X, places_X])
        for layer in layers
    }


def _change(then_XD: Tensor, now_XD: Tensor) -> float:
    then_XD, now_XD = then_XD.double(), now_XD.double().cpu()
    # Half precision has no room for every base's inputs.
    fits_X = then_XD.isfinite().all(-1)
    length = then_XD[fits_X].norm()
    return float((now_XD - then_XD)[fits_X].norm() / length) if length else 0.0
