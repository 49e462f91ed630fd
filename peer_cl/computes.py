"""What a base computes: the log probabilities that it gives some fixed tokens.

Hashes name a base's weights and tokenizer. What its config says beside them (an activation, the
rotary base) is in no hash, since each version of transformers writes that file in its own way. So a
saved model keeps how likely its base found a few fixed tokens, and they are asked again at loading;
see docs/decisions/0024. Stores compare what layers read in ordinary text (`pipelines.base_check`).

Shape suffixes: T tokens.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.bases import within_context
from peer_cl.branches import token_log_probs
from peer_cl.errors import BaseMismatchError
from peer_cl.served import check_evaluation

NUM_TOKENS = 48
"""How many tokens are asked: they come three times, so that where they stand says much of them."""
_DISTINCT = 16
_DECIMALS = 6
FARTHEST, FARTHEST_BF16 = 0.02, 0.1
"""From which change on a base is another one, in fp32 or fp16 and in bf16: a few times what another
kernel's rounding does."""


def computed(attachment: Attachment) -> dict[str, Any] | None:
    """Return what the base computes, for JSON; None where it is not finite or there is no room.

    Args:
        attachment: the base with its hooks, or without them again; no pool speaks.

    Raises:
        StateError: when the base is in training mode: dropout would be told as what it computes.
    """
    base = attachment.model
    num_known = len(_embeddings(base))
    ids = [
        (place * place * 7919 + place * 31 + 13) % num_known
        for place in (number % _DISTINCT for number in range(within_context(base, NUM_TOKENS)))
    ]
    log_probs = _log_probs(attachment, ids)
    if len(ids) < _DISTINCT or not all(map(math.isfinite, log_probs)):
        return None
    return {"ids": ids, "log_probs": [round(one, _DECIMALS) for one in log_probs]}


def check_computed(attachment: Attachment, then: dict[str, Any], what: str) -> None:
    """Refuse a base that has its old weights and computes something else with them.

    Args:
        attachment: the base with its hooks; no pool speaks.
        then: what `computed` returned when the model was saved.
        what: what was made with the base, for the message.

    Raises:
        BaseMismatchError: with how far it is.
    """
    change = change_since(attachment, then)
    is_bf16 = _embeddings(attachment.model).dtype == torch.bfloat16
    if not change <= (FARTHEST_BF16 if is_bf16 else FARTHEST):  # what is no number is no base
        raise BaseMismatchError(
            f"{what} was made for a base that has these weights and computes something else: the "
            f"log probabilities of {len(then['ids'])} fixed tokens are {change:.0%} from what they "
            "were; undo what was changed in the base's config.json (an activation, the rotary "
            "base), or load it with the version of transformers that the model was saved with"
        )


def change_since(attachment: Attachment, then: dict[str, Any]) -> float:
    """Return how far log probabilities are from what they were: 0 for the same.

    That is the length of the difference over the length of their spread about their mean.

    Args: as for `check_computed`.
    """
    then_T = torch.tensor(then["log_probs"], dtype=torch.float64)
    now_T = torch.tensor(_log_probs(attachment, then["ids"]), dtype=torch.float64)
    spread = (then_T - then_T.mean()).norm()
    return float((now_T - then_T).norm() / spread.clamp_min(10**-_DECIMALS))


def _embeddings(base: Any) -> Tensor:
    weights: Tensor = base.get_input_embeddings().weight
    return weights


@torch.no_grad()
def _log_probs(attachment: Attachment, ids: list[int]) -> list[float]:
    base = attachment.model
    check_evaluation(base, "model.eval()")
    ids_BT = torch.tensor([ids]).to(_embeddings(base).device)
    listening = attachment.listening() if attachment.is_attached else nullcontext()
    with listening, torch.autocast(ids_BT.device.type, enabled=False):
        logits_BTV = base(input_ids=ids_BT, use_cache=False).logits
    found: list[float] = token_log_probs(logits_BTV, ids_BT)[0, 1:].tolist()
    return found
