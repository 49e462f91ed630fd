"""Writing on from a prompt, with an account of who spoke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from peer_cl import PeerCache, PeerModel
from peer_cl.errors import InputError
from peer_cl.inputs import check_room
from peer_cl.mixture import held_weights
from peer_cl.pool import pool_names
from pipelines.batches import tokenise
from pipelines.documents import composed_text

MOST_SEED = 2**63 - 1
"""Of a draw; torch takes no larger one everywhere."""
_SHOWN = 40
_KEPT = ("eos_token_id", "bos_token_id", "pad_token_id")
"""What counts of the base's own generation_config.json."""


@dataclass(frozen=True)
class Writing:
    """A continuation, and the weights that were held while it was written."""

    prompt: str
    text: str
    """What was written on."""
    base_weight: float
    """The base's held weight."""
    weights: dict[str, float]
    """The held weight of every pool that was asked; 0 where it was dropped."""
    base_text: str | None
    """What the base alone writes, where that was wanted."""
    num_tokens: int
    """That were written, an end token counted."""
    is_ended: bool
    """Whether it ended by itself; False: it came to the number of tokens that were allowed."""


def write(
    model: PeerModel,
    tokenizer: Any,
    prompt: str,
    *,
    domains: str | Sequence[str] | None = None,
    force: bool = False,
    guidance_scale: float = 1.0,
    max_new_tokens: int = 60,
    sample: bool = False,
    seed: int | None = None,
    compare: bool = False,
    on_text: Callable[[str], None] | None = None,
) -> Writing:
    """Return how the model goes on from a prompt.

    It is written from the distribution that is scored (decision 0019): of what the base's own
    generation_config.json says, only the tokens that end a text count. A penalty or a kind of cache
    in it is for whoever calls `PeerModel.generate`, which keeps it, as transformers does.

    Args:
        model: the model with its pools.
        tokenizer: the base's.
        prompt: read as the beginning of a document.
        domains: ask only these (or this one), without odds for names; default: those whose
            signature matches the prompt, and, where names count, those that it names.
        force: with exactly one domain, its pool alone.
        guidance_scale: how often what pools say beyond the base counts.
        max_new_tokens: at most so many.
        sample: draw tokens instead of taking the likeliest.
        seed: of the draw; None: another one each time.
        compare: write with the base alone too.
        on_text: told all that was written so far, after every token; what it raises ends the
            writing.

    Raises:
        InputError: for an empty prompt, one that with the new tokens is longer than the base's
            context, a seed that torch does not take, a guidance that is not positive, or force
            without exactly one domain.
        UnknownError: for an unknown domain.
    """
    domains = pool_names(domains) if domains is not None else None
    if not prompt.strip():
        raise InputError("the prompt is empty; give the beginning of a text")
    if seed is not None and not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed must lie between 0 and {MOST_SEED}, not {str(seed)[:_SHOWN]}")
    prompt = composed_text(prompt)  # as what was learned is
    ids = torch.tensor(tokenise(tokenizer, [prompt]))
    check_room(model.base, ids.shape[1])
    check_room(model.base, ids.shape[1], max_new_tokens)
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": max_new_tokens,
        "do_sample": sample,
        "pad_token_id": tokenizer.eos_token_id,
        "base_config": _plain_config(model),
    }
    if sample:
        options["top_k"] = 0  # of all tokens: transformers draws among the 50 likeliest
    cache = PeerCache(model.base.config, model.attachment.tap)
    written = _written(
        ids,
        seed,
        lambda: model.generate(
            ids,
            domains=domains,
            force=force,
            guidance_scale=guidance_scale,
            cache=cache,
            streamer=_Listener(tokenizer, on_text) if on_text is not None else None,
            **options,
        ),
    )
    base_text = None
    if compare:
        with model.disable_pool():
            by_base = _written(ids, seed, lambda: model.generate(ids, **options))
        base_text = _text(tokenizer, ids, by_base)
    base_weight, weights = _weights(model, cache, forced=domains if force else None)
    return Writing(
        prompt=prompt,
        text=_text(tokenizer, ids, written),
        base_weight=base_weight,
        weights=weights,
        base_text=base_text,
        num_tokens=len(written),
        is_ended=len(written) < max_new_tokens or written[-1] in _end_ids(model),
    )


class _Listener:
    """Hears tokens as transformers' `generate` chooses them, and tells the text so far."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._ids: list[int] = []
        self._prompt: str | None = None

    def put(self, value: torch.Tensor) -> None:
        """Hear the prompt first, then one token at a time."""
        self._ids += value.flatten().tolist()
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        if self._prompt is None:
            self._prompt = whole
            return
        # A sign of several bytes may be half there: its other bytes come with the next token.
        self._on_text(whole.removeprefix(self._prompt).removesuffix("\ufffd"))

    def end(self) -> None:
        """Hear that the writing is over; all is told already."""


def _plain_config(model: PeerModel) -> GenerationConfig:
    """Return a config that says nothing but at which tokens the base begins, ends and pads."""
    own = model.base.generation_config
    return GenerationConfig(**{name: getattr(own, name, None) for name in _KEPT})


def _written(ids: torch.Tensor, seed: int | None, generate: Callable[[], Any]) -> list[int]:
    """Return the tokens that a call of `generate` wrote after the prompt."""
    # With a seed, the caller's own draws go on as they would have.
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        written: list[int] = generate()[0, ids.shape[1] :].tolist()
    return written


def _text(tokenizer: Any, ids: torch.Tensor, written: list[int]) -> str:
    """Return written tokens as text."""
    before = ids[0].tolist()
    # The whole is decoded: alone, some tokenizers drop the blank before the first written word.
    prompt, whole = (
        str(tokenizer.decode(row, skip_special_tokens=True)) for row in (before, before + written)
    )
    return whole.removeprefix(prompt)


def _end_ids(model: PeerModel) -> list[int]:
    """Return the tokens at which the base ends a text."""
    config: Any = model.base.generation_config
    ends = config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


def _weights(
    model: PeerModel, cache: PeerCache, forced: Sequence[str] | None
) -> tuple[float, dict[str, float]]:
    """Return the weights that a generation held: the base's, and each asked pool's."""
    if forced is not None and cache.pools:  # none where the forced one is disabled
        return 0.0, dict.fromkeys(forced, 1.0)
    if not cache.pools or cache.masses_QB is None:
        return 1.0, {}
    held_QB = held_weights(cache.masses_QB, model.budget)
    base_weight, *others = held_QB[:, 0].tolist()
    return base_weight, dict(zip(cache.pools, others, strict=True))
