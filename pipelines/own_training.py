"""Training own experts: each fact's alone, on the frozen base, many facts in one batch.

A fact's experts are a function of the base, the settings and the fact, to the last bit: its seed is
a hash of both, words for changed wordings are background text's, and batches have one fixed shape,
so that neither its neighbours nor its place in a batch matter.

In turn a fact reads its statement and the same in changed words.

Shape suffixes: G facts of a group, T tokens, P places of a row, D width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import DamageError, StateError
from peer_cl.hooks import Hooks
from peer_cl.items import RelationSpace
from peer_cl.own import NO_ITEM, Item, OwnExperts
from peer_cl.router import Background
from pipelines.batches import group_by_length, num_shared, pad, pieces, tokenise
from pipelines.encoder import vectors_of
from pipelines.facts import Fact, changed_prompt
from pipelines.keys import READ_TOKENS, is_text, text_nats
from pipelines.progress import Progress, no_progress
from pipelines.relations import relation_keys, subject_spellings
from pipelines.settings import TrainingSettings, fast_training, reading
from stores.objects import replace_file

K = TypeVar("K")
GROUP = 16
"""Facts of a batch; a smaller group is filled up with copies of its last fact."""
LENGTHS, ANSWER_LENGTHS = 16, 8
"""Rows are padded to a multiple of so many tokens, and answers to so many."""
WARMUP_STEPS = 3
FACT_RECIPE = 5
"""Part of each fact's seed: raised when the same settings would teach facts in another way."""
NUM_HOSTS = 9


def own_host_layers(depth: int) -> tuple[int, ...]:
    """Return the decoder layers that carry own experts: nine, evenly spread.

    Example:
        >>> own_host_layers(30)
        (3, 6, 9, 12, 15, 18, 21, 24, 27)
        >>> own_host_layers(4)
        (0, 1, 2, 3)
    """
    places = range(1, NUM_HOSTS + 1)
    return tuple(sorted({min(depth - 1, round(depth * n / (NUM_HOSTS + 1))) for n in places}))


@dataclass(frozen=True)
class _Row:
    """One reading: token ids, from where its fact is active, and where its answer is foreseen."""

    ids: tuple[int, ...]
    begin: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class _Readings:
    """What a fact reads, one row a step."""

    fact: Fact
    seed: int
    spellings: tuple[tuple[int, ...], ...]
    """Of its subject, as token ids."""
    rows: tuple[_Row, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """The tokens of a padded row, and the places of a padded answer: by this fact alone."""
        return (
            -(-max(len(row.ids) for row in self.rows) // LENGTHS) * LENGTHS,
            -(-max(len(row.places) for row in self.rows) // ANSWER_LENGTHS) * ANSWER_LENGTHS,
        )


def train_own(
    hooks: Hooks,
    facts: Mapping[str, Fact],
    *,
    tokenizer: Any,
    space: RelationSpace,
    words: Sequence[str],
    settings: TrainingSettings,
    encoder: str,
    checkpoints: Path,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of facts, in the order given.

    Args:
        hooks: on the base.
        facts: by document id, at least one.
        tokenizer: the base's.
        space: the base's space of relations.
        words: of background text.
        settings: of the training.
        encoder: the store's, by which requests find units.
        checkpoints: a folder to which each finished group is written. Where it holds some, these
            are not trained again.
        progress: called after each group.

    Raises:
        DamageError: when experts are not finite.
    """
    readings = {key: _read(tokenizer, fact, words, settings) for key, fact in facts.items()}
    by_shape: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key, one in readings.items():
        by_shape[one.shape].append(key)

    def groups() -> Iterator[Group[str]]:
        for shape, keys in sorted(by_shape.items()):
            for at in range(0, len(keys), GROUP):
                chosen = {key: readings[key] for key in keys[at : at + GROUP]}
                about = [
                    [key, asdict(one.fact), [row.ids for row in one.rows]]
                    for key, one in chosen.items()
                ]
                yield Group([*chosen], about, partial(train, [*chosen.values()], shape))

    def train(chosen: Sequence[_Readings], shape: tuple[int, int]) -> dict[str, Tensor]:
        down, up = _train(hooks, chosen, shape, settings)
        relations = relation_keys(hooks, tokenizer, space, [one.fact for one in chosen])
        return {"down": down, "up": up, "relations": relations}

    learned = in_groups(groups(), [*facts], checkpoints, "learning facts", progress)
    items = [
        Item(
            key,
            one.spellings,
            max(len(row.places) for row in one.rows),
            units=(one.fact.statement,),
        )
        for key, one in readings.items()
    ]
    vectors = [vectors_of(encoder, one.units) for one in items]
    weights = learned["down"], learned["up"]
    return _own(hooks, items, learned["relations"], settings, weights, vectors)


class Group(NamedTuple, Generic[K]):
    """Items that are trained in one batch."""

    keys: Sequence[K]
    about: Any
    """All that they are and read, as JSON: names the group's checkpoint."""
    train: Callable[[], dict[str, Tensor]]
    """Return what they learn, an item a row."""


def in_groups(
    groups: Iterable[Group[K]],
    order: Sequence[K],
    checkpoints: Path,
    what: str,
    progress: Progress,
) -> dict[str, Tensor]:
    """Return what items learn, by name, an item a row in the order given.

    Args:
        groups: all of them together.
        order: the items' keys.
        checkpoints: a folder to which each finished group is written. Where it holds some, these
            are not trained again.
        what: is done, for `progress`, which is called after each group.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    found: dict[K, tuple[Path, int]] = {}
    progress(what, 0, len(order), "")
    for group in groups:
        digest = hashlib.sha256(json.dumps(group.about).encode()).hexdigest()
        path = checkpoints / f"{digest}.safetensors"
        if not path.is_file():
            replace_file(path, save(group.train()))
        found |= {key: (path, row) for row, key in enumerate(group.keys)}
        progress(what, len(found), len(order), "")
    return mapped_rows([found[key] for key in order], checkpoints)


def mapped_rows(places: Sequence[tuple[Path, int | None]], folder: Path) -> dict[str, Tensor]:
    """Return rows of tensors in files, by name, one below the other, in a file of a folder that is
    mapped: what many items learned need not fit into memory. The file has no name any more.

    Args:
        places: a safetensors file each, and the number of a row in it, or None for all of it.
        folder: on a disk with room for them.
    """
    found = dict[str, Tensor]()
    for number, (path, row) in enumerate(places):
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - no mapping
                whole = row is None
                tensor = stored.get_tensor(name) if whole else stored.get_slice(name)[row]
                if name not in found:
                    found[name] = _mapped((len(places), *tensor.shape), tensor.dtype, folder)
                found[name][number] = tensor
    return found


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return torch.from_file(file.name, True, math.prod(shape), dtype=dtype).view(shape)


def _own(
    hooks: Hooks,
    items: Sequence[Item],
    relations_IKE: Tensor,
    settings: TrainingSettings,
    weights: tuple[Tensor, Tensor] | None = None,
    vectors: Sequence[Tensor] = (),
) -> OwnExperts:
    return OwnExperts(
        items,
        relations_IKE,
        vectors=vectors,
        host_layers=own_host_layers(len(hooks.layers)),
        width=hooks.width,
        num_experts=settings.own_experts,
        weights=weights,
    ).to(hooks.device)


def _read(
    tokenizer: Any, fact: Fact, words: Sequence[str], settings: TrainingSettings
) -> _Readings:
    """Return what a fact reads in each step: it depends on no other fact."""
    about = [
        FACT_RECIPE,
        settings.seed,
        fact.subject,
        fact.relation,
        fact.taught_prompt,
        fact.statement,
    ]
    digest = hashlib.sha256("\0".join(map(str, about)).encode()).digest()
    seed = int.from_bytes(digest[:7], "big")
    draw = random.Random(seed)
    spellings = subject_spellings(fact.subject, tokenizer)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def row(prompt: str, whole: str) -> _Row:
        ids = pieces([*tokenise(tokenizer, [whole])[0], *end], settings.max_tokens)[0]
        start = min(num_shared(tokenise(tokenizer, [prompt])[0], ids), len(ids) - 1)
        return _Row(
            ids, _subject_end(ids[:start], spellings), tuple(range(start - 1, len(ids) - 1))
        )

    rows = []
    for step in range(settings.own_steps):
        if step % 2:
            rows.append(row(fact.taught_prompt, fact.statement))
        else:
            prompt = changed_prompt(fact, words, draw)
            rows.append(row(prompt, f"{fact.answered(prompt)}."))
    return _Readings(fact, seed, spellings, tuple(rows))


def _subject_end(ids: Sequence[int], spellings: Sequence[tuple[int, ...]]) -> int:
    """Return the last token of the subject where it stands first; else that of the prompt."""
    ends = [
        at + len(one) - 1
        for one in spellings
        for at in range(1, len(ids) - len(one) + 1)
        if tuple(ids[at : at + len(one)]) == one
    ]
    return min(ends, default=len(ids) - 1)


def _train(
    hooks: Hooks,
    readings: Sequence[_Readings],
    shape: tuple[int, int],
    settings: TrainingSettings,
) -> tuple[Tensor, Tensor]:
    """Return what a group's facts learn: down and up (G, L, R, D), bf16."""
    filled = [*readings, *[readings[-1]] * (GROUP - len(readings))]
    own = _own(hooks, [Item("")] * GROUP, torch.empty(GROUP, 0, 0), settings)
    own.reset([one.seed for one in filled])

    def loss(step: int) -> Tensor:
        rows = [one.rows[step] for one in filled]
        return _loss(hooks, own, rows, shape, settings.precision)

    with hooks.frozen(), fast_training(hooks.base, settings.precision):
        down, up = fit(own, loss, settings.own_steps, settings.own_learning_rate)
    num = len(readings)
    return down[:num], up[:num]


def fit(
    own: OwnExperts, loss: Callable[[int], Tensor], num_steps: int, learning_rate: float
) -> tuple[Tensor, Tensor]:
    """Return what items learn in so many steps: down and up (I, L, R, D), bf16.

    Args:
        own: their experts, as they begin.
        loss: the sum of the items' losses at a step: no item's gradient depends on another.
        num_steps, learning_rate: of Adam; its rate rises in three steps and falls to zero.

    Raises:
        DamageError: when experts are not finite.
    """
    optimiser = torch.optim.Adam(own.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    for step in range(num_steps):
        rate = min(1.0, (step + 1) / WARMUP_STEPS) * (1 - step / num_steps)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rate
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    down, up = (one.detach().bfloat16().cpu() for one in (own.down_ILRD, own.up_ILRD))
    if not bool(down.isfinite().all() and up.isfinite().all()):
        raise DamageError(
            "own experts became infinite; nothing was registered. Lower own_learning_rate or "
            "passage_learning_rate"
        )
    return down, up


def _loss(
    hooks: Hooks, own: OwnExperts, rows: Sequence[_Row], shape: tuple[int, int], precision: str
) -> Tensor:
    """Return the sum of the facts' losses: no fact's gradient depends on another fact."""
    length, num_places = shape
    ids_GT, mask_GT = pad([row.ids for row in rows], pad_id=0, length=length, device=hooks.device)
    items_GT = torch.full(ids_GT.shape, NO_ITEM)
    places_GP = torch.zeros(len(rows), num_places, dtype=torch.long)
    weights_GP = torch.zeros(len(rows), num_places)
    for number, row in enumerate(rows):
        items_GT[number, row.begin : len(row.ids)] = number
        places_GP[number, : len(row.places)] = torch.tensor(row.places)
        weights_GP[number, : len(row.places)] = 1 / len(row.places)
    places_GP, weights_GP = places_GP.to(hooks.device), weights_GP.to(hooks.device)
    with (
        torch.autocast(hooks.device.type, torch.bfloat16, enabled=precision == "bf16"),
        hooks.branch((), own=[own], items_BT=items_GT, alike=True),
        hooks.head_at(places_GP),
    ):
        output = hooks.base(input_ids=ids_GT, attention_mask=mask_GT, use_cache=False)
    targets_GP = ids_GT.gather(1, (places_GP + 1).clamp_max(length - 1))
    losses_GP = functional.cross_entropy(
        output.logits.float().transpose(1, 2), targets_GP, reduction="none"
    )
    total: Tensor = (losses_GP * weights_GP).sum()
    return total


def fact_losses(
    hooks: Hooks, own: OwnExperts, facts: Mapping[str, Fact], tokenizer: Any, precision: str
) -> dict[str, tuple[float, float]]:
    """Return each statement's loss of the base, and with the fact's experts, nats a token.

    As in scored text they are active from where the answer is foreseen on.

    Args:
        hooks: on the base.
        own: the facts' experts.
        facts: by document id.
        tokenizer: the base's.
        precision: of the base's products.
    """
    own.to(hooks.device)
    places = {item.item_id: number for number, item in enumerate(own.items)}
    keys = list(facts)
    rows = tokenise(tokenizer, [facts[key].statement for key in keys])
    prompts = tokenise(tokenizer, [facts[key].taught_prompt for key in keys])
    found = {}
    for group in group_by_length([len(ids) for ids in rows], READ_TOKENS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0, device=hooks.device)
        text_BT = is_text(ids_BT, mask_BT, None)
        items_BT = torch.full(ids_BT.shape, NO_ITEM)
        for row, number in enumerate(group):
            start = num_shared(prompts[number], rows[number])
            items_BT[row, start - 1 : len(rows[number])] = places[keys[number]]
        losses = []
        for lists in ([], [own]):
            with reading(hooks.base, precision), hooks.branch((), own=lists, items_BT=items_BT):
                logits_BTV = hooks.base(
                    input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                ).logits
            losses.append(text_nats(logits_BTV[text_BT.roll(-1, 1)], ids_BT, text_BT))
        for number, *both in zip(group, *losses, strict=True):
            num = len(rows[number]) - 1
            found[keys[number]] = (both[0] / num, both[1] / num)
    return found


def needed_space(background: Background) -> RelationSpace:
    """Return the base's space of relations; StateError: the store's statistics have none."""
    if background.relations is None:
        raise StateError("the background statistics hold no space of relations: make a new store")
    return background.relations


def background_words(tokenizer: Any, beginnings: Sequence[Sequence[int]]) -> list[str]:
    """Return the words of background texts, given as token ids with the start token first."""
    return [word for ids in beginnings for word in str(tokenizer.decode(ids[1:])).split()]
