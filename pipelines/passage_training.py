"""Training the own experts of passages: each alone, on the frozen base, several in one batch.

As with facts (`pipelines.own_training`), a passage's experts are a function of the base, the
settings and the passage, to the last bit: the shape of its batch follows from its length alone.

A passage reads the same text in every step, and its experts lie in upper layers: what the base's
lower layers make of it is computed once.

Shape suffixes: G passages of a group, T tokens, X places of a group that predict a token.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, Item, OwnExperts
from peer_cl.passages import token_pairs
from pipelines.batches import Row, pad, predicts
from pipelines.own_training import Group, fit, in_groups
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings, fast_training

LENGTHS = 32
"""Passages are padded to a multiple of so many tokens."""
GROUP_TOKENS = 512
"""Padded tokens of a batch; a smaller one is filled up with copies of its last passage."""
NUM_HOSTS = 5
PASSAGE_RECIPE = 1
"""Part of each passage's seed, as of a fact's."""


def passage_host_layers(depth: int) -> tuple[int, ...]:
    """Return the decoder layers that carry passages' experts: five in the upper third.

    Example:
        >>> passage_host_layers(30)
        (20, 22, 24, 26, 28)
        >>> passage_host_layers(4)
        (3,)
    """
    places = range(2 * NUM_HOSTS, 3 * NUM_HOSTS)
    return tuple(sorted({min(depth - 1, round(depth * n / (3 * NUM_HOSTS))) for n in places}))


def train_passages(
    hooks: Hooks,
    rows: Sequence[Row],
    *,
    settings: TrainingSettings,
    checkpoints: Path,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of passages, in the order given.

    Args:
        hooks: on the base.
        rows: the passages, at least one, with the start token first.
        settings: of the training.
        checkpoints: a folder to which each finished group is written. Where it holds some, these
            are not trained again.
        progress: called after each group.

    Raises:
        DamageError: when experts are not finite.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_length[-(-len(row.ids) // LENGTHS) * LENGTHS].append(number)

    def groups() -> Iterator[Group[int]]:
        for length, numbers in sorted(by_length.items()):
            size = max(1, GROUP_TOKENS // length)
            for at in range(0, len(numbers), size):
                chosen = numbers[at : at + size]
                texts = [rows[number].ids for number in chosen]
                about = [PASSAGE_RECIPE, settings.seed, texts]
                yield Group(chosen, about, partial(train, texts, size, length))

    def train(texts: Sequence[tuple[int, ...]], size: int, length: int) -> dict[str, Tensor]:
        filled = [*texts, *[texts[-1]] * (size - len(texts))]
        down, up = _train(hooks, filled, length, settings)
        return {"down": down[: len(texts)], "up": up[: len(texts)]}

    order = range(len(rows))
    learned = in_groups(groups(), order, checkpoints, "learning passages", progress)
    return _empty(hooks, rows, settings).holding(learned["down"], learned["up"])


def _empty(hooks: Hooks, rows: Sequence[Row], settings: TrainingSettings) -> OwnExperts:
    return OwnExperts(
        [Item(row.document_id) for row in rows],
        torch.empty(len(rows), 0, 0),
        [token_pairs(row.ids) for row in rows],
        host_layers=passage_host_layers(len(hooks.layers)),
        width=hooks.width,
        num_experts=settings.passage_experts,
    )


def _train(
    hooks: Hooks, texts: Sequence[Sequence[int]], length: int, settings: TrainingSettings
) -> tuple[Tensor, Tensor]:
    """Return what a group's passages learn: down and up (G, L, R, D), bf16."""
    own = _empty(hooks, [Row("", tuple(ids)) for ids in texts], settings)
    own.reset([_seed(ids, settings) for ids in texts])
    ids_GT, mask_GT = pad(texts, pad_id=0, length=length)
    counted_GT = predicts(mask_GT)
    targets_X = ids_GT.roll(-1, 1)[counted_GT]
    weights_X = (1 / counted_GT.sum(1, keepdim=True)).expand(counted_GT.shape)[counted_GT]
    items_GT = torch.arange(len(texts))[:, None].where(mask_GT.bool(), NO_ITEM)
    first, device = own.host_layers[0], ids_GT.device.type

    def read() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"):
            output = hooks.base(input_ids=ids_GT, attention_mask=mask_GT, use_cache=False)
        logits_XV: Tensor = output.logits[0]
        return logits_XV

    def loss(_: int) -> Tensor:
        with (
            hooks.branch((), own=[own], items_BT=items_GT),
            hooks.above(first, states_GTD),
            hooks.head_at(counted_GT),
        ):
            nats_X = functional.cross_entropy(read().float(), targets_X, reduction="none")
        return (nats_X * weights_X).sum()

    with hooks.frozen(), fast_training(hooks.base, settings.precision):
        with (
            torch.no_grad(),
            hooks.bare(keep_states=[max(0, first - 1)]) as seen,
            hooks.head_at(torch.zeros_like(counted_GT)),
        ):
            read()
        states_GTD = seen.states[max(0, first - 1)]
        return fit(own, loss, settings.passage_steps, settings.passage_learning_rate)


def _seed(ids: Sequence[int], settings: TrainingSettings) -> int:
    digest = hashlib.sha256(
        json.dumps([PASSAGE_RECIPE, settings.seed, list(ids)]).encode()
    ).digest()
    return int.from_bytes(digest[:7], "big")
