"""Where a text stands to each domain's signature: how much is missing until it asks the domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peer_cl.asking import signatures_of
from peer_cl.choice import choose_by_context
from peer_cl.scoring import evidence_tokens
from peer_cl.shortlist import needed_log_odds, token_evidence

if TYPE_CHECKING:
    from peer_cl.branches import BasePass
    from peer_cl.model import PeerModel


@dataclass(frozen=True)
class Standing:
    """Where one text stands to one domain's signature; nats a token."""

    log_odds: float
    """Mean over the text's tokens: of words, of the segment that is nearest to being asked, or of
    states where the signature has no words; -inf where the domain has no signature."""
    needed: float | None
    """Log odds from which on a text of this length, with states as near the domain's, asks it;
    None where none would do: it has no signature, or the text is too short or too far."""
    is_asked: bool
    """Whether the text asks the domain by its signature."""
    is_named: bool
    """Whether nothing but the domain's names in the text ask it: it speaks if it then has something
    to say."""


def standings(
    model: PeerModel, base: BasePass, ids_BT: Tensor, names: Sequence[str]
) -> dict[str, Standing]:
    """Return where one text, all of it a given context, stands to the signatures of some pools.

    Args:
        model: the model with its pools.
        base: the bare base's pass over the text.
        ids_BT: the text, one row.
        names: of pools.
    """
    unsigned = Standing(-math.inf, None, False, False)
    found = dict.fromkeys(names, unsigned)
    signed = [name for name in names if model.pool(name).signature is not None]
    if not signed or model.background is None:
        return found
    signatures = signatures_of(model, signed)
    evidence = token_evidence(
        base.signature_BTD,
        ids_BT,
        evidence_tokens(ids_BT, None, model.special_ids),
        background=model.background,
        signatures=signatures,
        search=model.search,
    )
    lengths_B = torch.tensor([ids_BT.shape[1]])
    choice = choose_by_context(signed, ids_BT, evidence, signatures, lengths_B, model.name_odds)
    log_odds_BP, needed_BP = needed_log_odds(evidence, signatures, lengths_B)
    for number, name in enumerate(signed):
        needed = float(needed_BP[0, number])
        is_named = choice.named is not None and bool(choice.named.alone_PB[number, 0])
        found[name] = Standing(
            log_odds=float(log_odds_BP[0, number]),
            needed=needed if math.isfinite(needed) else None,
            is_asked=bool(choice.at_PB[number, 0] >= 0) and not is_named,
            is_named=is_named,
        )
    return found
