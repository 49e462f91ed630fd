"""Training own experts: each item's alone, on the frozen base, a few items side by side.

An item is a fact or a passage (`pipelines.fact_training`, `pipelines.passage_training`); what it
reads is a course. Its experts are a function of the base, the method and its course, to the last
bit: every step has one shape, whichever items take part, and draws are seeded by the course.

What experts cannot change is computed once: what the base's lower layers make of a row, and all
that it makes of a prompt, since experts are active from its last token on. Of the vocabulary, a
step weighs the item's own tokens and those that the base takes for likely in its rows.

Shape suffixes: G places, R rows, T tokens, P tokens before others, U = P + T, V tokens that are
weighed, W the vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, Item, OwnExperts
from pipelines.batches import pad
from pipelines.progress import Progress
from pipelines.settings import fast_training
from stores.objects import replace_file

SLOTS = 4
"""Items that are learned side by side."""
WEIGHED_TOKENS = 3072
"""Of the vocabulary, in a step."""


@dataclass(frozen=True)
class Reading:
    """A row of tokens: those that the base reads alone, then those that are read with experts."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    """The last is foreseen alone."""
    first: int = 0
    """Of these, the first whose successor is to be foreseen."""


@dataclass(frozen=True)
class Lesson:
    """Readings of one form. In every step some are read, in turn."""

    readings: tuple[Reading, ...]
    """At least one; where there is nothing to read, one that foresees nothing (`NOTHING`)."""
    turns: tuple[int, ...]
    """Their numbers, in the order in which they are read, over and over."""
    at_once: int
    """Of a step."""
    length: int
    """To which rows are padded, at least that of the longest: one place is padding. With nothing to
    hide transformers leaves the mask away, and other kernels run."""
    prompt_length: int
    """To which prompts are padded; 0: there are none."""


NOTHING = Reading((0,), (0, 0), 1)
"""A row that counts for nothing, with a prompt."""


@dataclass(frozen=True)
class Course:
    """All that an item reads."""

    lessons: tuple[Lesson, ...]
    num_steps: int

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Of its steps. Items that are learned side by side have one."""
        return tuple((one.at_once, one.length, one.prompt_length) for one in self.lessons)

    @cached_property
    def about(self) -> str:
        """What it is a course of, as JSON: seeds its experts and names its checkpoint."""
        return json.dumps([self.num_steps, [asdict(one) for one in self.lessons]])


Start = tuple[Tensor, Tensor]
"""Where experts of one kind begin: down and up (L, R, D), fp16 (`peer_cl.router.Background`)."""


@dataclass(frozen=True)
class Method:
    """How items of one kind are learned."""

    what: str
    """Is done, for `progress`."""
    recipe: int
    """Part of each seed: raised when the same settings would teach in another way."""
    seed: int
    host_layers: tuple[int, ...]
    num_experts: int
    learning_rate: float
    """Of Adam; it rises in `warmup_steps` and falls linearly to zero."""
    warmup_steps: int
    betas: tuple[float, float]
    precision: str
    start: Start | None = field(default=None, repr=False)
    """None: each item's `down` begins at random, by its seed, and its `up` at zero."""

    @cached_property
    def about(self) -> str:
        """All of it, as text."""
        if self.start is None:
            return repr(self)
        begun = save(dict(zip(("down", "up"), self.start, strict=True)))
        return f"{self} {hashlib.sha256(begun).hexdigest()}"

    def digest(self, course: Course) -> bytes:
        """Return the sha256 of a course that is learned so."""
        return hashlib.sha256(f"{self.about}\n{course.about}".encode()).digest()

    def experts(self, hooks: Hooks, num: int) -> OwnExperts:
        """Return the experts of so many items, to be learned."""
        return OwnExperts(
            [Item("")] * num,
            torch.empty(num, 0, 0),
            host_layers=self.host_layers,
            width=hooks.width,
            num_experts=self.num_experts,
        ).to(hooks.device)


def fitting(start: Start | None, num_experts: int) -> Start | None:
    """Return a start if it is one of so many experts in a layer."""
    return start if start is not None and start[0].shape[1] == num_experts else None


def learn_items(
    hooks: Hooks, courses: Sequence[Course], method: Method, checkpoints: Path, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Return what items learn, in the order given: down and up (I, L, R, D), bf16, mapped.

    Args:
        hooks: on the base.
        courses: at least one.
        method: of the training.
        checkpoints: a folder to which each finished item is written. Where it holds some, these
            are not trained again.
        progress: called after each item.

    Raises:
        DamageError: when experts are not finite.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    paths = [checkpoints / f"{method.digest(one).hex()}.safetensors" for one in courses]
    waiting = defaultdict[tuple[tuple[int, ...], ...], list[int]](list)
    for number, path in enumerate(paths):
        if not path.is_file():
            waiting[courses[number].shape].append(number)
    num_done = len(paths) - sum(map(len, waiting.values()))
    progress(method.what, num_done, len(paths), "")
    for _, numbers in sorted(waiting.items()):  # a step has one shape
        for number, weights in _learn(hooks, courses, numbers, method):
            replace_file(paths[number], save(weights))
            num_done += 1
            progress(method.what, num_done, len(paths), "")
    learned = _mapped_files(paths, checkpoints)
    return learned["down"], learned["up"]


def _mapped_files(paths: Sequence[Path], folder: Path) -> dict[str, Tensor]:
    """Return tensors of files, by name, one below the other, in a file of a folder that is mapped:
    what many items learned need not fit into memory. The file has no name any more.
    """
    found = dict[str, Tensor]()
    for number, path in enumerate(paths):
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - no mapping
                tensor = stored.get_tensor(name)
                if name not in found:
                    found[name] = _mapped((len(paths), *tensor.shape), tensor.dtype, folder)
                found[name][number] = tensor
    return found


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return torch.from_file(file.name, True, math.prod(shape), dtype=dtype).view(shape)


def _learn(
    hooks: Hooks, courses: Sequence[Course], waiting: Sequence[int], method: Method
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield the numbers of items, as they are done, with what they learned; all of one shape."""
    slots, left = _Slots(hooks, method), iter(waiting)
    with _training(hooks, method):
        held = dict(enumerate(islice(left, SLOTS)))
        for place in range(SLOTS):
            slots.put(place, courses[held.get(place, waiting[-1])])
        while held:
            for place in slots.step() & held.keys():
                yield held.pop(place), slots.learned(place)
                for number in islice(left, 1):
                    held[place] = number
                    slots.put(place, courses[number])


def mean_learned(hooks: Hooks, courses: Sequence[Course], method: Method) -> Start:
    """Return the mean of what `SLOTS` items of one shape and number of steps learn, fp32."""
    slots = _Slots(hooks, method)
    with _training(hooks, method):
        for place, course in enumerate(courses):
            slots.put(place, course)
        while not slots.step():
            pass
    return slots.mean()


@contextmanager
def _training(hooks: Hooks, method: Method) -> Iterator[None]:
    is_bf16 = method.precision == "bf16"
    with (
        hooks.frozen(),
        fast_training(hooks.base, method.precision),
        torch.autocast(hooks.device.type, torch.bfloat16, enabled=is_bf16),
    ):
        yield


class _Rows:
    """The rows of a lesson, with what the base makes of what stays the same: prompts, and its lower
    layers below the first that carries experts.
    """

    def __init__(self, hooks: Hooks, lesson: Lesson, first: int) -> None:
        device, readings = hooks.device, lesson.readings
        ids = [one.ids for one in readings]
        self.ids_RT, mask_RT = pad([one[:-1] for one in ids], 0, lesson.length, device)
        self.targets_RT, _ = pad([one[1:] for one in ids], 0, lesson.length, device)
        before_RP = mask_RT[:, :0]
        self.past = None
        if lesson.prompt_length:
            self.past, before_RP = _prompts(hooks, lesson)
        self.mask_RU = torch.cat([before_RP, mask_RT], 1)
        firsts_R1 = torch.tensor([[one.first] for one in readings], device=device)
        counts_RT = mask_RT * (torch.arange(lesson.length, device=device) >= firsts_R1)
        self.weights_RT = counts_RT / counts_RT.sum(1, keepdim=True).clamp_min(1)
        below = max(0, first - 1)
        past = _copied([self.past]) if self.past else None
        with (
            torch.no_grad(),
            hooks.bare(keep_states=[below]) as seen,
            hooks.head_at(counts_RT.bool()),
        ):
            (logits_XW,) = _read(hooks, self.ids_RT, self.mask_RU, past).logits
        self.states_RTD = seen.states[below]
        self.expected_W = logits_XW.float().softmax(-1).sum(0)
        self.expected_W[self.targets_RT.flatten()] = torch.inf


@torch.no_grad()
def _prompts(hooks: Hooks, lesson: Lesson) -> tuple[Any, Tensor]:
    """Return what the base makes of prompts, and where their tokens are: int64 (R, P).

    They are padded on the left, so that what follows stands side by side.
    """
    backwards = [one.prompt[::-1] for one in lesson.readings]
    turned_RP, mask_RP = pad(backwards, 0, lesson.prompt_length, hooks.device)
    ids_RP, mask_RP = turned_RP.flip(1), mask_RP.flip(1)
    with hooks.bare(), hooks.head_at(torch.zeros_like(mask_RP).bool()):
        return _read(hooks, ids_RP, mask_RP, None, keeps=True).cache, mask_RP


def _read(hooks: Hooks, ids_RT: Tensor, mask_RU: Tensor, past: Any, *, keeps: bool = False) -> Any:
    """Return the base's output for rows behind a past, which it `keeps` where there was none."""
    given = {}
    if "position_ids" in inspect.signature(hooks.base.forward).parameters:
        positions_RU = (mask_RU.cumsum(1) - 1).clamp_min(0)  # padding counts for nothing
        given = {"position_ids": positions_RU[:, -ids_RT.shape[1] :]}
    return hooks.base(
        input_ids=ids_RT,
        attention_mask=mask_RU,
        cache=past,
        use_cache=keeps or past is not None,
        **given,
    )


def _copied(pasts: Sequence[Any], rows: Sequence[Sequence[int]] | None = None) -> Any:
    """Return some rows of several caches as one, to which more can be added."""
    whole = copy.copy(pasts[0])
    whole.layers = []
    for layers in zip(*(past.layers for past in pasts), strict=True):
        layer = copy.copy(layers[0])
        if rows is not None:
            for name, value in vars(layers[0]).items():
                if isinstance(value, Tensor) and value.ndim:
                    parts = [vars(one)[name][own] for one, own in zip(layers, rows, strict=True)]
                    setattr(layer, name, torch.cat(parts))
        whole.layers.append(layer)
    return whole


class _Studied:
    """An item that is being learned: its course, with the rows of its lessons."""

    def __init__(self, hooks: Hooks, course: Course, first: int) -> None:
        self.course = course
        self.rows = [_Rows(hooks, one, first) for one in course.lessons]
        expected_W = torch.stack([one.expected_W for one in self.rows]).sum(0)
        num_weighed = min(WEIGHED_TOKENS, len(expected_W))
        self.weighed_V = expected_W.topk(num_weighed).indices.sort().values


class _Slots:
    """Items that are learned side by side; where one is done the next takes its place.

    Each step has the same shape, so that neither neighbours nor places change an item's bits.
    """

    def __init__(self, hooks: Hooks, method: Method) -> None:
        self._hooks, self._method, self._own = hooks, method, method.experts(hooks, SLOTS)
        self._studied: list[_Studied | None] = [None] * SLOTS
        self._steps = torch.zeros(SLOTS, device=hooks.device)
        self._moments = [
            (torch.zeros_like(one), torch.zeros_like(one)) for one in self._own.parameters()
        ]

    def put(self, place: int, course: Course) -> None:
        """Let an item be learned at a place from now on."""
        known = (one for one in self._studied if one is not None and one.course is course)
        studied = next(known, None) or _Studied(self._hooks, course, self._own.host_layers[0])
        self._studied[place] = studied
        self._steps[place] = 0
        if self._method.start is None:
            self._own.reset_item(place, int.from_bytes(self._method.digest(course)[:7], "big"))
        else:
            with torch.no_grad():
                for one, begins_LRD in zip(self._own.parameters(), self._method.start, strict=True):
                    one[place] = begins_LRD
        for first, second in self._moments:
            first[place], second[place] = 0, 0

    def step(self) -> set[int]:
        """Let every item read once, and return the places of those that are done.

        One that is done may read on, so that the shape stays; it learns nothing more.
        """
        studied = [cast(_Studied, one) for one in self._studied]
        weighed_GV = torch.stack([one.weighed_V for one in studied])
        with self._hooks.head_of(weighed_GV):
            losses = [
                self._loss(studied, number, weighed_GV) for number in range(len(studied[0].rows))
            ]
        gradients = torch.autograd.grad(torch.stack(losses).sum(), list(self._own.parameters()))
        self._steps += 1
        nums = torch.tensor(
            [float(one.course.num_steps) for one in studied], device=self._steps.device
        )
        rising = (self._steps / self._method.warmup_steps).clamp_max(1)
        rates = self._method.learning_rate * rising * (1 - (self._steps - 1) / nums).clamp_min(0)
        with torch.no_grad():
            for one, gradient, moments in zip(
                self._own.parameters(), gradients, self._moments, strict=True
            ):
                self._move(one, gradient, *moments, rates)
        return {*(self._steps >= nums).nonzero()[:, 0].tolist()}

    def _move(
        self, one: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rates_G: Tensor
    ) -> None:
        """Make a step of Adam, each place with its own count of steps and rate."""
        betas = self._method.betas
        first.lerp_(gradient, 1 - betas[0])
        second.lerp_(gradient.square(), 1 - betas[1])
        steps, rates = (own.view(-1, 1, 1, 1) for own in (self._steps, rates_G))
        mean = first / (1 - betas[0] ** steps)
        size = (second / (1 - betas[1] ** steps)).sqrt()
        one -= rates * mean / (size + 1e-8)

    def _loss(self, studied: Sequence[_Studied], number: int, weighed_GV: Tensor) -> Tensor:
        """Return the sum over items of the mean over the rows of a lesson of nats a token."""
        rows = [one.rows[number] for one in studied]
        lessons = [one.course.lessons[number] for one in studied]
        num = lessons[0].at_once
        chosen = [
            [one.turns[(int(step) * num + turn) % len(one.turns)] for turn in range(num)]
            for one, step in zip(lessons, self._steps.tolist(), strict=True)
        ]

        def taken(name: str) -> Tensor:
            pairs = zip(rows, chosen, strict=True)
            return torch.cat([getattr(one, name)[own] for one, own in pairs])

        ids_RT, targets_RT, mask_RU = map(taken, ("ids_RT", "targets_RT", "mask_RU"))
        past = None if rows[0].past is None else _copied([one.past for one in rows], chosen)
        mask_RT = mask_RU[:, -ids_RT.shape[1] :].bool()
        items_R = torch.arange(SLOTS, device=ids_RT.device).repeat_interleave(num)
        with (
            self._hooks.branch(
                (), own=[self._own], items_BT=items_R[:, None].where(mask_RT, NO_ITEM), alike=True
            ),
            self._hooks.above(self._own.host_layers[0], taken("states_RTD")),
        ):
            logits_RTV = _read(self._hooks, ids_RT, mask_RU, past).logits
        found_GX = torch.searchsorted(weighed_GV, targets_RT.view(SLOTS, -1))
        # Padding's target, 0, may not be weighed; it counts for nothing.
        found_X = found_GX.clamp_max(weighed_GV.shape[1] - 1).flatten()
        nats_X = functional.cross_entropy(
            logits_RTV.float().flatten(0, 1), found_X, reduction="none"
        )
        total: Tensor = (nats_X * taken("weights_RT").flatten()).sum() / num
        return total

    def mean(self) -> Start:
        """Return the mean over places of what was learned, fp32."""
        down_LRD, up_LRD = (one.detach().cpu().mean(0) for one in self._own.parameters())
        return down_LRD, up_LRD

    def learned(self, place: int) -> dict[str, Tensor]:
        """Return what was learned at a place: down and up (L, R, D), bf16."""
        found = {"down": self._own.down_ILRD[place], "up": self._own.up_ILRD[place]}
        found = {name: one.detach().bfloat16().cpu() for name, one in found.items()}
        if not all(bool(one.isfinite().all()) for one in found.values()):
            raise DamageError(
                "own experts became infinite; nothing was registered. Lower own_learning_rate or "
                "passage_learning_rate"
            )
        return found
