"""Documents as rows of tokens, and the steps of a training run.

A row is one document, or a piece of a long one, with a start token before it: documents never
attend to each other and need no separators. Rows of similar length share a step.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.bases import start_token_id
from peer_cl.errors import CorpusError, InputError

WINDOW_STEPS = 8
"""Rows are sorted by length within so many steps: little padding, yet a mixed order."""
_MIN_RAISE = 1.05
"""Passes are raised by at least this factor at a time where a run would be too short."""


@dataclass(frozen=True)
class Row:
    """One document, or a piece of one, as token ids with the start token first."""

    document_id: str
    kind: str
    ids: tuple[int, ...]
    counts_from: int = 1
    """The first token whose loss counts; those before it are context."""
    answer_from: int | None = None
    """The first token of an answer, which runs to the row's end; None: no answer."""
    name: tuple[int, int] = (0, 0)
    """Begin and end of a name in the context whose loss counts too."""


class Batch(NamedTuple):
    """Rows of one step, padded on the right. A tuple, since Lightning moves no frozen dataclass."""

    ids_BT: Tensor
    mask_BT: Tensor
    weights_BT: Tensor
    """How much each token's loss counts; 0 for padding and context."""
    rows: tuple[int, ...]
    """Numbers of the rows in the run's list."""


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's token ids, the start token first and no end token.

    Raises:
        InputError: when one text is given in place of a list.
        CorpusError: when a text has no token at all.
    """
    if isinstance(texts, str):  # to the type checker a sequence of texts: its letters
        raise InputError(f"texts must be a list of texts, not the text {texts[:60]!r}: give [text]")
    start = start_token_id(tokenizer)
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []
    for text, ids in zip(texts, encoded, strict=True):
        if not ids:
            raise CorpusError(f"a text has no token: {text[:60]!r}")
    return [[start, *ids] for ids in encoded]


def num_shared(beginning: Sequence[int], whole: Sequence[int]) -> int:
    """Return how many tokens a text's beginning and the whole text have in common.

    The beginning's last token may differ where no blank parts it from what follows.

    Example:
        >>> num_shared([0, 5, 7], [0, 5, 8, 9])
        2
    """
    pairs = enumerate(zip(beginning, whole, strict=False))
    return next((place for place, (one, other) in pairs if one != other), len(beginning))


def pieces(ids: Sequence[int], max_tokens: int) -> list[tuple[int, ...]]:
    """Return a document's rows: pieces of at most `max_tokens`, each with the start token.

    Example:
        >>> pieces([0, 1, 2, 3, 4, 5], 3)
        [(0, 1, 2), (0, 3, 4), (0, 5)]
    """
    start, tokens = ids[0], ids[1:]
    width = max_tokens - 1
    return [(start, *tokens[i : i + width]) for i in range(0, len(tokens), width)]


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return rows as one tensor, padded on the right, and its mask: 1 for tokens, 0 for padding.

    Example:
        >>> pad([[5, 6], [7]], 0)[0].tolist()
        [[5, 6], [7, 0]]
    """
    length = max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = torch.tensor(row)
        mask_BT[number, : len(row)] = 1
    return ids_BT, mask_BT


def target_weights(rows: Sequence[Row], length: int, answer_weight: float) -> Tensor:
    """Return how much each token's loss counts, (B, T): 1, or `answer_weight` in answers.

    Example:
        >>> row = Row("", "fact", (0, 5, 6, 7), answer_from=3)
        >>> target_weights([row, Row("", "text", (0, 5))], 4, 3.0).tolist()
        [[0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 0.0, 0.0]]
    """
    weights_BT = torch.zeros(len(rows), length)
    for number, row in enumerate(rows):
        weights_BT[number, row.counts_from : len(row.ids)] = 1.0
        weights_BT[number, slice(*row.name)] = 1.0
        if row.answer_from is not None:
            weights_BT[number, row.answer_from : len(row.ids)] = answer_weight
    return weights_BT


def next_weights(batch: Batch) -> Tensor:
    """Return the weight of what each position predicts, (B, T).

    It is 0 at a row's last token (which predicts nothing) and where the next token is context.
    """
    return batch.weights_BT.roll(-1, 1)


def weighted_loss(logits_XV: Tensor, batch: Batch) -> Tensor:
    """Return a training step's loss: the weighted sum over the number of tokens read, nats.

    Over all tokens read, not over those that count: else a step of varied facts, in which only
    answers count, would pull as hard as one in which every token teaches. `logits_XV` are those at
    the positions whose `next_weights` are above 0, row after row.
    """
    weights_BT = next_weights(batch)
    counted_BT = weights_BT > 0
    targets_X = batch.ids_BT.roll(-1, 1)[counted_BT]
    losses_X = functional.cross_entropy(logits_XV.float(), targets_X, reduction="none")
    total: Tensor = (losses_X * weights_BT[counted_BT]).sum() / batch.mask_BT[:, 1:].sum()
    return total


def group_by_length(lengths: Sequence[int], tokens_per_step: int) -> list[list[int]]:
    """Return groups of row numbers of similar length, of at most so many padded tokens each.

    Example:
        >>> group_by_length([4, 1, 4, 1], 8)
        [[1, 3], [0, 2]]
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[number] <= tokens_per_step:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def plan_steps(
    rows: Sequence[Row],
    passes: dict[str, float],
    tokens_per_step: int,
    seed: int,
    min_steps: int = 1,
) -> list[list[int]]:
    """Return which rows each training step reads, of at most `tokens_per_step` padded tokens.

    The passes of a kind are spread over the run: a fact read ten times comes back about every tenth
    of it. Where the number has a fraction, the rows read once more come late: texts read one and a
    half times end the run. The plan depends on the rows and the seed alone, so that a stopped run
    continues exactly.

    Where there would be fewer than `min_steps`, all passes are raised alike until there are so
    many: in a handful of steps a pool learns nothing. A step is then no wider than all rows once,
    since a second copy of a row in a step teaches nothing.
    """
    steps = _planned(rows, passes, tokens_per_step, seed)
    if not 0 < len(steps) < min_steps:
        return steps
    width = min(tokens_per_step, sum(len(row.ids) for row in rows if passes[row.kind]))
    steps, times = _planned(rows, passes, width, seed), 1.0
    while len(steps) < min_steps:
        times *= max(min_steps / len(steps), _MIN_RAISE)
        raised = {kind: times * passed for kind, passed in passes.items()}
        steps = _planned(rows, raised, width, seed)
    return steps


def _planned(
    rows: Sequence[Row], passes: dict[str, float], tokens_per_step: int, seed: int
) -> list[list[int]]:
    draw = random.Random(seed)
    places: list[tuple[float, int]] = []
    for number, row in enumerate(rows):
        times = passes[row.kind]
        for repeat in range(int(times) + (draw.random() < times % 1)):
            places.append(((repeat + draw.random()) / times, number))
    windows: list[list[int]] = [[]]
    num_tokens = 0
    for _, number in sorted(places):
        windows[-1].append(number)
        num_tokens += len(rows[number].ids)
        if num_tokens >= WINDOW_STEPS * tokens_per_step:
            windows.append([])
            num_tokens = 0
    steps: list[list[int]] = []
    for window in windows:
        groups = group_by_length([len(rows[number].ids) for number in window], tokens_per_step)
        draw.shuffle(groups)
        steps += [[window[place] for place in group] for group in groups]
    return steps
