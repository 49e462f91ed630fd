"""The reader: experts that read one unit at a time, whether it answers a question, and with what.

A small base answers from one sentence only a little more often than from a page, and never says
that it does not. A reader is a list of single-neuron experts in every layer of the frozen base,
taught once for a base on public questions, sentences that answer them and sentences that nearly do
(`python -m benchmarks reader`). It holds nothing of any store, is active in requests alone, and a
unit is read alone, so what it says of one depends on no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from peer_cl.hooks import Hooks
from peer_cl.model import PeerModel
from peer_cl.own import OwnExperts, load_own
from pipelines.batches import tokenise
from pipelines.settings import reading, resolve_precision
from pipelines.units import with_title

NOTHING = " none"
"""What a reader says of a unit that does not answer."""
MAX_UNIT_TOKENS, MAX_QUESTION_TOKENS, MAX_ANSWER_TOKENS = 128, 96, 32
READERS = Path(__file__).parents[1] / "data"
"""Where readers that come with the project lie, by their base's hash."""


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a unit that is taken to answer."""

    text: str
    log_prob: float
    """Nats a token, the line's end included."""


def unit_prompt(tokenizer: Any, title: str, unit: str, question: str) -> list[int]:
    """Return the token ids that an answer follows, the start token first; long texts are cut."""
    text = tokenise(tokenizer, [with_title(title, unit)])[0][: MAX_UNIT_TOKENS + 1]
    asked = tokenise(tokenizer, [f"\nQuestion: {question}"])[0][1:][:MAX_QUESTION_TOKENS]
    return [*text, *asked, *tokenise(tokenizer, ["\nAnswer:"])[0][1:]]


class UnitReader:
    """A reader on a model's base.

    Args:
        hooks: on the base.
        tokenizer: the base's.
        experts: one item, in any layers.
    """

    def __init__(self, hooks: Hooks, tokenizer: Any, experts: OwnExperts) -> None:
        self._hooks, self._tokenizer = hooks, tokenizer
        self._experts = experts.to(hooks.device)

    @cached_property
    def _nothing(self) -> int:
        return int(tokenise(self._tokenizer, [NOTHING])[0][1])

    def _running(self, num_tokens: int) -> Any:
        items_BT = torch.zeros(1, num_tokens, dtype=torch.long)
        return self._hooks.branch((), own=[self._experts], items_BT=items_BT, alike=True)

    def relevance(self, question: str, units: Sequence[tuple[str, str]]) -> list[float]:
        """Return for each unit, a title and a text, the log odds that it answers a question."""
        base, found = self._hooks.base, list[float]()
        with self._hooks.lock, reading(base, resolve_precision("auto", self._hooks.device)):
            for title, unit in units:
                ids = unit_prompt(self._tokenizer, title, unit, question)
                with self._running(len(ids)):
                    ids_BT = torch.tensor([ids], device=self._hooks.device)
                    last_BTV = base(input_ids=ids_BT, use_cache=False, logits_to_keep=1).logits
                    logits_V = last_BTV[0, -1].float()
                nothing = float(logits_V.log_softmax(-1)[self._nothing].exp().clamp(1e-6, 1 - 1e-6))
                found.append(float(torch.logit(torch.tensor(1 - nothing))))
        return found

    def answer(self, question: str, title: str, unit: str) -> Reading:
        """Return the short answer to a question that a unit answers."""
        base = self._hooks.base
        ids = unit_prompt(self._tokenizer, title, unit, question)
        ids_BT = torch.tensor([ids], device=self._hooks.device)
        precision = resolve_precision("auto", self._hooks.device)
        with self._hooks.lock, reading(base, precision), self._running(len(ids)):
            written = base.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                max_new_tokens=MAX_ANSWER_TOKENS,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                begin_suppress_tokens=[self._nothing],
                stop_strings=["\n"],
                tokenizer=self._tokenizer,
                pad_token_id=self._tokenizer.eos_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = written.sequences[0, len(ids) :].tolist()
        steps = zip(written.logits, new, strict=True)
        nats = [float(step[0].float().log_softmax(-1)[token]) for step, token in steps]
        text = str(self._tokenizer.decode(new, skip_special_tokens=True))
        return Reading(text.split("\n")[0].strip(), sum(nats) / len(nats))


def load_reader(model: PeerModel, tokenizer: Any) -> UnitReader | None:
    """Return the reader that comes with the project for a model's base; None where none does."""
    path = READERS / reader_name(model.identity.weights_sha256)
    if not path.is_file():
        return None
    experts = load_own(path.read_bytes(), model.identity, name=f"the reader {path.name}")
    return UnitReader(model.hooks, tokenizer, experts)


def reader_name(weights_sha256: str) -> str:
    """Return the name of the file of a base's reader."""
    return f"reader-{weights_sha256[:16]}.safetensors"
