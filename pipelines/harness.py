"""A store as a model of lm-evaluation-harness (`pip install "peer-cl[eval]"`).

from lm_eval import simple_evaluate
from pipelines.harness import StoreModel
simple_evaluate(StoreModel("knowledge"), tasks=[...])

A request's context counts as the prompt: the router decides by it, and what it finds predicts the
continuation. One loaded model serves as the base, as the store, and as one domain: `way`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from peer_cl.bases import context_length
from peer_cl.errors import StateError
from peer_cl.read import Reading, read
from pipelines.batches import group_by_length, pad, tokenise
from pipelines.progress import Progress, no_progress
from pipelines.store import Store, open_store

ROUTED, BASE = "routed", "base"
TOKENS_PER_PASS = 1024
MAX_NEW_TOKENS = 256
"""Where a task says nothing else."""
_T = TypeVar("_T")


class StoreModel(LM):
    """A store's live snapshot, as lm-evaluation-harness calls a model.

    Args:
        store: an open store, or its folder.
        way: "routed": what the router finds takes part; "base": the base alone; or the name of a
            domain, which is given. It may be set anew between evaluations; nothing is loaded again.
        progress: called after each batch.

    Raises: UnknownError: when a request is answered while `way` names no domain of the store.
    """

    def __init__(
        self, store: Store | str | Path, way: str = ROUTED, progress: Progress = no_progress
    ) -> None:
        super().__init__()
        opened = open_store(store) if isinstance(store, str | Path) else store
        self.model, self.tokenizer = opened.load()
        self.way, self._progress = way, progress
        self._device = self.model.device

    @property
    def _domains(self) -> list[str] | None:
        return None if self.way == ROUTED else [] if self.way == BASE else [self.way]

    @property
    def tokenizer_name(self) -> str:
        """The name under which requests are cached."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the base's own chat template; None where none is wanted."""
        if chat_template is False:
            return None
        if self.tokenizer.chat_template is None:
            raise StateError("the base has no chat template: evaluate without one")
        return str(self.tokenizer.chat_template)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a chat as the base's template writes it."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return of each context and continuation the latter's log probability, in nats, and
        whether greedy decoding writes it.
        """
        rows, starts = [], []
        for request in requests:
            context, continuation = request.args
            # Blanks belong to the continuation: with them its first token is as in running text.
            blanks = len(context) - len(context.rstrip())
            context, continuation = (
                context[: len(context) - blanks],
                context[len(context) - blanks :] + continuation,
            )
            begin = self._ids(context)
            whole = self._ids(context + continuation)
            if whole[: len(begin)] != begin or len(whole) == len(begin):
                whole = [*begin, *self._ids(continuation)[1:]]
            cut = max(0, len(whole) - (context_length(self.model.base) or len(whole)))
            rows.append([whole[0], *whole[1 + cut :]])
            starts.append(max(1, len(begin) - cut))

        def told(reading: Reading, row: int, number: int) -> tuple[float, bool]:
            own = slice(starts[number], len(rows[number]))
            log_probs_T = reading.mixture_log_probs_BT[row, own]
            before = slice(own.start - 1, own.stop - 1)
            best_T = reading.logits_BTV[row, before].argmax(-1).cpu()
            return float(log_probs_T.sum()), bool((best_T == reading.input_ids[row, own]).all())

        return self._read(rows, starts, told)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return each text's log probability, in nats, read causally from its first token.

        One that is longer than the base's context is read in pieces, as the harness cuts them.
        """
        totals = []
        for request in requests:
            start, *ids = self._ids(request.args[0])
            # Two less than the context: the start token, and the last one, are read too.
            most = (context_length(self.model.base) or len(ids) + 2) - 2
            windows = get_rolling_token_windows(ids, start, most, 1)
            total = 0.0
            for context, own in map(make_disjoint_window, windows):
                whole = [*context, *own]
                row = whole if whole[0] == start else [start, *whole]
                reading = read(self.model, torch.tensor([row]), domains=self._domains)
                total += float(reading.mixture_log_probs_BT[0, -len(own) :].sum())
            totals.append(total)
            self._progress("reading", len(totals), len(requests), "")
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return what is written behind each context, up to a stop string."""
        written = []
        for request in requests:
            context, options = request.args
            options = dict(options)
            until = options.pop("until", None) or []
            until = [until] if isinstance(until, str) else list(until)
            num_new = int(options.pop("max_gen_toks", MAX_NEW_TOKENS))
            limit = context_length(self.model.base)
            ids = self._ids(context)
            if limit is not None:
                ids = [ids[0], *ids[1:][-(max(1, limit - num_new - 1)) :]]
            ids_BT = torch.tensor([ids])
            out_BT: Tensor = self.model.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                domains=self._domains,
                max_new_tokens=num_new,
                pad_token_id=self.tokenizer.eos_token_id,
                **({"stop_strings": until, "tokenizer": self.tokenizer} if until else {}),
                **{"do_sample": False, **options},
            )
            text = str(self.tokenizer.decode(out_BT[0, len(ids) :], skip_special_tokens=True))
            ends = [at for one in until if (at := text.find(one)) >= 0]
            written.append(text[: min(ends, default=len(text))])
            self._progress("writing", len(written), len(requests), "")
        return written

    def _ids(self, text: str) -> list[int]:
        return tokenise(self.tokenizer, [text])[0] if text else self._ids("a")[:1]

    def _read(
        self,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        told: Callable[[Reading, int, int], _T],
    ) -> list[_T]:
        """Return what is told of each row, read behind a prompt of so many tokens."""
        found: dict[int, _T] = {}
        for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
            reading = read(
                self.model,
                ids_BT,
                mask_BT,
                routing="prompt",
                domains=self._domains,
                prompt_lengths=torch.tensor([starts[number] for number in group]),
                keep_logits=True,
            )
            found |= {number: told(reading, row, number) for row, number in enumerate(group)}
            self._progress("reading", len(found), len(rows), "")
        return [found[number] for number in range(len(rows))]
