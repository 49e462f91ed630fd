"""Writing on from a prompt: which branch writes, and by what weights it was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from peer_cl.errors import InputError
from peer_cl.generate import PromptWeights, weigh_prompt, write_branches
from peer_cl.model import PeerModel
from peer_cl.pool import pool_names
from peer_cl.read import check_text
from pipelines.batches import tokenise
from pipelines.corpora import composed_text

BASE = "base"


@dataclass(frozen=True)
class Writing:
    """A continuation, and the weights by which its writer was chosen."""

    prompt: str
    text: str
    """The continuation."""
    writer: str
    """The branch that wrote it: "base" or a domain."""
    base_weight: float
    """The base's posterior weight after the prompt."""
    weights: dict[str, float]
    """The same for each active domain."""
    base_text: str | None
    """What the base alone writes, where that was wanted."""
    num_tokens: int
    """Tokens written, an end token counted."""
    is_ended: bool
    """Whether it ended by itself; False: it reached max_new_tokens."""


def write(
    model: PeerModel,
    tokenizer: Any,
    prompt: str,
    *,
    domains: str | Sequence[str] | None = None,
    oracle: bool = False,
    max_new_tokens: int = 60,
    sample: bool = False,
    seed: int | None = None,
    compare: bool = False,
    on_text: Callable[[str], None] | None = None,
) -> Writing:
    """Return how the model continues a prompt.

    One branch writes: greedily the one with the heaviest posterior after the prompt; with `sample`
    one that is drawn by the posterior, at temperature 1 among all tokens, which draws from the
    mixture itself. Of the base's own generation settings only its end tokens count.

    Args:
        domains: these (or this one) are active; default: those that the router finds.
        oracle: with exactly one domain, its pool writes whatever its weight.
        seed: of the draw; None: another one each time.
        compare: write with the base alone too.
        on_text: called with the text so far after every token.

    Raises:
        InputError: for an empty prompt, one that with the new tokens is longer than the base's
            context, or oracle without exactly one domain.
        UnknownError: for an unknown domain.
    """
    if not prompt.strip():
        raise InputError("the prompt is empty; give the beginning of a text")
    prompt = composed_text(prompt)  # as the documents that were learned
    ids_BT = torch.tensor(tokenise(tokenizer, [prompt]))
    check_text(model.base, ids_BT, num_new=max_new_tokens)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if oracle and len(pool_names(domains or ())) != 1:
            raise InputError(f"oracle lets one domain's pool write: name one, not {domains}")
        end = weigh_prompt(model, ids_BT, torch.ones_like(ids_BT), domains=domains)
        values = end.weights_QB[:, 0]
        number = int(torch.multinomial(values, 1)) if sample else int(end.writers_B[0])
        number = 1 if oracle else number
        names = (BASE, *end.domains)
        writer = names[number]
        base_weight, weights = (
            float(values[0]),
            dict(zip(end.domains, values[1:].tolist(), strict=True)),
        )
        if oracle:
            base_weight, weights = 0.0, {writer: 1.0}
        weights = {name: weight for name, weight in weights.items() if weight > 0}
        options: dict[str, Any] = {
            "attention_mask": torch.ones_like(ids_BT),
            "max_new_tokens": max_new_tokens,
            "pad_token_id": tokenizer.eos_token_id,
            "do_sample": sample,
            "num_beams": 1,
            "repetition_penalty": 1.0,
        }
        if sample:
            options |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        listener = None if on_text is None else _Listener(tokenizer, on_text)
        written = _written(model, ids_BT, end, number, streamer=listener, **options)
        by_base = written
        if compare and writer != BASE:
            by_base = _written(model, ids_BT, end, 0, **options)
    given, ends = ids_BT[0].tolist(), cast(Any, model.base.generation_config).eos_token_id
    return Writing(
        prompt=prompt,
        text=_text(tokenizer, given, written),
        writer=writer,
        base_weight=base_weight,
        weights=weights,
        base_text=_text(tokenizer, given, by_base) if compare else None,
        num_tokens=len(written),
        is_ended=len(written) < max_new_tokens
        or written[-1] in (ends if isinstance(ends, list) else [ends]),
    )


def _written(
    model: PeerModel, ids_BT: torch.Tensor, end: PromptWeights, number: int, **options: Any
) -> list[int]:
    """Return the tokens that one branch, given by its place, writes after the prompt."""
    branches, writers_B = (None, *end.domains), torch.tensor([number])
    mask_BT = options.pop("attention_mask")
    whole_BT = write_branches(model, branches, writers_B, ids_BT, mask_BT, end.items_PBT, options)
    written: list[int] = whole_BT[0, ids_BT.shape[1] :].tolist()
    return written


def _text(tokenizer: Any, prompt: list[int], written: list[int]) -> str:
    # The whole is decoded: alone, some tokenizers drop the blank before the first written word.
    rows = (prompt, prompt + written)
    before, whole = (str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows)
    return whole.removeprefix(before)


class _Listener:
    """A streamer of transformers' `generate` that passes on the text so far."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._prompt: list[int] = []
        self._written: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt first, then one token at a time."""
        if not self._prompt:
            self._prompt = value.flatten().tolist()
            return
        self._written += value.flatten().tolist()
        # A character of several bytes may be half there: the others come with the next token.
        text = _text(self._tokenizer, self._prompt, self._written)
        self._on_text(text.removesuffix("\ufffd"))

    def end(self) -> None:
        """Everything was passed on already."""
