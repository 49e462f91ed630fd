"""What a model makes of texts and questions. A reader is any model: token ids in, logits out.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peer_cl.branches import token_log_probs
from pipelines.batches import group_by_length, pad
from pipelines.questions import Question
from pipelines.token_scores import TOKENS_PER_PASS

Reader = Callable[[Tensor, Tensor], Tensor]
"""Token ids (B, T) and their mask (B, T; 0 for padding on the right) to logits (B, T, V)."""


def reader_of(model: Any) -> Reader:
    """Return a causal language model of transformers (or PEFT) as a reader."""

    def read(ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        return logits

    return read


@torch.no_grad()
def log_probs(reader: Reader, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return the log probability of each token after the start token, fp64, nats, a row each."""
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
        scores_BT = token_log_probs(reader(ids_BT, mask_BT), ids_BT)
        for number, scores_T in zip(group, scores_BT, strict=True):
            found[number] = scores_T[1 : len(rows[number])].double().numpy().copy()
    return found


@torch.no_grad()
def answers(reader: Reader, asked: Sequence[Question]) -> list[bool]:
    """Return for each question whether greedy decoding after its prompt writes the answer."""
    found = [False] * len(asked)
    for group in group_by_length([len(question.ids) for question in asked], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([asked[number].ids for number in group], pad_id=0)
        likeliest_BT = reader(ids_BT, mask_BT).argmax(-1)
        for number, row_T in zip(group, likeliest_BT, strict=True):
            question = asked[number]
            said = row_T[question.num_prompt - 1 : len(question.ids) - 1].tolist()
            found[number] = said == list(question.ids[question.num_prompt :])
    return found
