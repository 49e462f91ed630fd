"""Documents as rows of tokens, and the steps of a training run.

A row is one document, or a piece of a long one, with a start token before it: documents never
attend to each other and need no separators. Rows of similar length share a step.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.bases import start_token_id
from peer_cl.errors import CorpusError, InputError
from pipelines.corpora import SENTENCE_END

WINDOW_STEPS = 8
"""Rows are sorted by length within so many steps: little padding, yet a mixed order."""
_MIN_RAISE = 1.05
"""Passes are raised by at least this factor at a time where a run would be too short."""


@dataclass(frozen=True)
class Row:
    """One document, or a piece of one, as token ids with the start token first."""

    document_id: str
    ids: tuple[int, ...]


class Batch(NamedTuple):
    """Rows of one step, padded on the right. A tuple, since Lightning moves no frozen dataclass."""

    ids_BT: Tensor
    mask_BT: Tensor
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


def pieces(
    ids: Sequence[int], max_tokens: int, begins: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """Return a document's rows: pieces of at most `max_tokens`, each with the start token.

    Args:
        ids: of the document, the start token first.
        max_tokens: of a row.
        begins: places at which sentences begin; where one lies in the latter half of a row, the
            next row begins there.

    Example:
        >>> pieces([0, 1, 2, 3, 4, 5], 3)
        [(0, 1, 2), (0, 3, 4), (0, 5)]
        >>> pieces([0, 1, 2, 3, 4, 5], 4, begins=[1, 3])
        [(0, 1, 2), (0, 3, 4, 5)]
    """
    width, at, rows = max_tokens - 1, 1, []
    while at < len(ids):
        end = at + width
        if end < len(ids):
            end = max((one for one in begins if at + width // 2 < one <= end), default=end)
        rows.append((ids[0], *ids[at:end]))
        at = end
    return rows


def sentence_begins(tokenizer: Any, text: str) -> list[int]:
    """Return the places in a text's token ids, the start token first, at which sentences begin."""
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in read.offset_mapping]
    begins = [match.end() for match in SENTENCE_END.finditer(text)]
    return [bisect_right(ends, begin) + 1 for begin in begins]


def pad(
    rows: Sequence[Sequence[int]],
    pad_id: int,
    length: int | None = None,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Return rows as one tensor, padded on the right, and its mask: 1 for tokens, 0 for padding.

    They are as long as the longest of them, or have a given `length`; they lie on the CPU, or on a
    given `device`.

    Example:
        >>> pad([[5, 6], [7]], 0)[0].tolist()
        [[5, 6], [7, 0]]
    """
    length = length or max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = torch.tensor(row)
        mask_BT[number, : len(row)] = 1
    return ids_BT.to(device), mask_BT.to(device)


def predicts(mask_BT: Tensor) -> Tensor:
    """Return which positions predict a token of their row: bool (B, T).

    Example:
        >>> predicts(torch.tensor([[1, 1, 1], [1, 1, 0]])).tolist()
        [[True, True, False], [True, False, False]]
    """
    return functional.pad(mask_BT[:, 1:], (0, 1)).bool()


def mean_loss(logits_XV: Tensor, batch: Batch) -> Tensor:
    """Return the mean loss of a batch's tokens, nats.

    `logits_XV` are those at the positions that predict one, row after row.
    """
    targets_X = batch.ids_BT[:, 1:][batch.mask_BT[:, 1:].bool()]
    return functional.cross_entropy(logits_XV.float(), targets_X)


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
    passes: float,
    tokens_per_step: int,
    seed: int,
    min_steps: int = 1,
) -> list[list[int]]:
    """Return which rows each training step reads, of at most `tokens_per_step` padded tokens.

    Passes are spread over the run. Where their number has a fraction, the rows read once more come
    late: texts read one and a half times end the run. The plan depends on the rows and the seed
    alone, so that a stopped run continues exactly.

    Where there would be fewer than `min_steps`, all passes are raised alike until there are so
    many: in a handful of steps a pool learns nothing. A step is then no wider than all rows once,
    since a second copy of a row in a step teaches nothing.
    """
    steps = _planned(rows, passes, tokens_per_step, seed)
    if not 0 < len(steps) < min_steps:
        return steps
    width = min(tokens_per_step, sum(len(row.ids) for row in rows))
    steps, times = _planned(rows, passes, width, seed), 1.0
    while len(steps) < min_steps:
        times *= max(min_steps / len(steps), _MIN_RAISE)
        steps = _planned(rows, times * passes, width, seed)
    return steps


def _planned(
    rows: Sequence[Row], passes: float, tokens_per_step: int, seed: int
) -> list[list[int]]:
    draw = random.Random(seed)
    places: list[tuple[float, int]] = []
    for number in range(len(rows)):
        for repeat in range(int(passes) + (draw.random() < passes % 1)):
            places.append(((repeat + draw.random()) / passes, number))
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
