"""Training the own experts of passages: each alone, on the frozen base, a few side by side.

As with facts (`pipelines.own_training`), a passage's experts are a function of the base, the
settings and the passage, to the last bit: every step has one shape, whichever passages take part.

In each step a passage answers some questions, in the form in which they are asked, and reads some
pieces of its text that begin with a sentence, each as if it began a text. What experts cannot
change is computed once: what the base's lower layers make of a row, and all that it makes of a
question, since experts are active from its last token on. Of the vocabulary, a step weighs the
passage's own tokens and those that the base takes for likely in it.

Where settings give passages no steps they have no experts, and are only found.

Shape suffixes: G places, R rows, T tokens, P tokens before others, U = P + T, V tokens that are
weighed, W the vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, Item, OwnExperts
from pipelines.batches import Row, pad, tokenise
from pipelines.corpora import SENTENCE_END
from pipelines.encoder import vectors_of
from pipelines.own_training import mapped_rows
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings, fast_training
from pipelines.study.questions import BUILT_IN
from pipelines.units import units_of, with_title
from stores.objects import replace_file

STRETCH = 64
"""Steps and questions are counted by so many tokens of a text."""
TEXT_LENGTH, QUESTION_LENGTH = 32, 32
"""Of rows, in tokens. Longer sentences are cut; longer questions are left out where they were made,
and people's are cut at their beginning."""
ANSWER_LENGTHS = (7, 16, 32, 64)
"""Of answers' rows, in tokens. A passage's longest answer decides: those whose answers are short
need not pay for others'. Made answers that are longer than the first are left out, and people's are
cut at the last."""
TEXTS, QUESTIONS = 4, 8
"""Rows of a passage in a step."""
SLOTS = 4
"""Passages that are learned side by side."""
QUESTIONS_OF_STRETCH = 4
"""A passage learns so many made questions for each of its stretches, fewer beside people's; with
more of these it takes more steps."""
OWN_TURNS = 2
"""How often a question of people is answered where a made one is answered once."""
LEAST_QUESTIONS = 4
"""A passage with fewer made questions learns them all; of others one is kept to be asked."""
LEAST_STEPS, WARMUP_STEPS = 10, 2
WEIGHED_TOKENS = 3072
"""Of the vocabulary, in a step."""
BETAS = (0.7, 0.95)
"""Of Adam; shorter memories than usual, for few steps."""
NUM_HOSTS = 5
PASSAGE_RECIPE = 4
"""Part of each passage's seed, as of a fact's."""
_MIN_WORDS = 5
"""Of a part of a text that is read alone; shorter ones go on to the next end."""


def passage_host_layers(depth: int) -> tuple[int, ...]:
    """Return the decoder layers that carry passages' experts: five in the upper two thirds.

    Example:
        >>> passage_host_layers(30)
        (10, 14, 18, 22, 26)
        >>> passage_host_layers(4)
        (1, 2, 3)
    """
    places = range(NUM_HOSTS)
    return tuple(sorted({min(depth - 1, round(depth * (5 + 2 * n) / 15)) for n in places}))


class _Asked(NamedTuple):
    """A question in the form in which it is asked, and its answer with the line's end."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Passage:
    """What is learned as one item of a document. All ids begin with the start token."""

    document_id: str
    ids: tuple[int, ...]
    """Of its text."""
    title: tuple[int, ...]
    """Of its title, without a start token."""
    texts: tuple[tuple[int, ...], ...]
    """What of its text is read at a time."""
    heading: str
    """Its document's title."""
    units: tuple[str, ...]
    """Of its text: what a question is compared with, and an answer quotes."""
    asked: tuple[_Asked, ...]
    questions: tuple[tuple[str, str, str], ...]
    """What is asked, as question, answer and who made it,"""
    kept: tuple[tuple[str, str, str], ...]
    """and what is kept to be asked, likewise."""

    @property
    def of_people(self) -> tuple[tuple[str, str, str], ...]:
        """The questions that people asked, which lead to it."""
        return tuple(one for one in self.questions if one[2] != BUILT_IN)

    @property
    def num_tokens(self) -> int:
        """Of its text."""
        return len(self.ids) - 1

    @property
    def answer_length(self) -> int:
        """Of the rows of its answers, in tokens: one of `ANSWER_LENGTHS`."""
        longest = max((len(one.answer) for one in self.asked), default=0)
        return next(length for length in ANSWER_LENGTHS if length >= longest)


def question_ids(tokenizer: Any, question: str) -> tuple[list[int], int, int]:
    """Return a question in the form in which it is learned and asked: token ids, the start token
    first, and the question's own first token and the one behind its last.
    """
    before, own, after = (
        tokenise(tokenizer, [text])[0] for text in ("Question:", f" {question}", "\nAnswer:")
    )
    return [*before, *own[1:], *after[1:]], len(before), len(before) + len(own) - 1


def question_prompt(tokenizer: Any, question: str) -> tuple[Tensor, Tensor]:
    """Return a question in the form in which it is asked, as token ids (1, T), and which of them
    are its own, bool (1, T): what the router sees.
    """
    ids, begin, end = question_ids(tokenizer, question)
    ids_BT = torch.tensor([ids])
    counted_BT = torch.zeros_like(ids_BT).bool()
    counted_BT[:, begin:end] = True
    return ids_BT, counted_BT


def make_passage(
    tokenizer: Any, row: Row, title: str, questions: Sequence[tuple[str, str, str]]
) -> Passage:
    """Return a row of a document as a passage, with the questions that it is to answer.

    Those of people come first. One question that was made is kept to be asked, drawn by its hash.
    """
    text = str(tokenizer.decode(row.ids[1:], skip_special_tokens=True))
    most = -(-len(row.ids) // STRETCH) * QUESTIONS_OF_STRETCH
    fitting = list[tuple[tuple[str, str, str], _Asked]]()
    for one in questions:
        prompt = question_ids(tokenizer, one[0])[0]
        answer = tokenise(tokenizer, [f" {one[1]}\n"])[0][1:]
        if one[2] != BUILT_IN:
            prompt = [prompt[0], *prompt[1:][1 - QUESTION_LENGTH :]]
            answer = answer[: ANSWER_LENGTHS[-1]]
        elif len(prompt) > QUESTION_LENGTH or len(answer) > ANSWER_LENGTHS[0]:
            continue
        fitting.append((one, _Asked(tuple(prompt), tuple(answer))))
    made = [pair for pair in fitting if pair[0][2] == BUILT_IN]
    own = [pair for pair in fitting if pair[0][2] != BUILT_IN]
    kept: tuple[tuple[str, str, str], ...] = ()
    if len(made) >= LEAST_QUESTIONS:
        kept = (min((one for one, _ in made), key=_by_hash),)
        made = [pair for pair in made if pair[0] not in kept]
    learned = [*own, *made[: max(0, most - OWN_TURNS * len(own))]]
    turns = [*own * (OWN_TURNS - 1), *learned]
    return Passage(
        document_id=row.document_id,
        ids=row.ids,
        title=tuple(tokenise(tokenizer, [f"{title}\n\n"])[0][1:]) if title else (),
        # A piece may hold an end token alone.
        texts=tuple(_texts(tokenizer, text)) if text.strip() else (row.ids[:TEXT_LENGTH],),
        heading=title,
        units=units_of(text) or (title,),
        asked=tuple(asked for _, asked in turns),
        questions=tuple(one for one, _ in learned),
        kept=kept,
    )


def _by_hash(question: tuple[str, str, str]) -> bytes:
    return hashlib.sha256(question[0].encode()).digest()


def _texts(tokenizer: Any, text: str) -> list[tuple[int, ...]]:
    """Return what of a text is read at a time, as token ids: from each sentence's beginning on, and
    of a longer one from where the last ended.
    """
    begins = [0]
    for match in SENTENCE_END.finditer(text):
        if len(text[begins[-1] : match.start()].split()) >= _MIN_WORDS:
            begins.append(match.end())
    found = []
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
        (ids,) = tokenise(tokenizer, [text[begin:] or text])
        num_own = len(tokenise(tokenizer, [text[begin:end] or text])[0])
        for at in range(1, num_own, TEXT_LENGTH - 1):
            found.append((ids[0], *ids[at : at + TEXT_LENGTH - 1]))
    return found


def train_passages(
    hooks: Hooks,
    passages: Sequence[Passage],
    *,
    settings: TrainingSettings,
    encoder: str,
    checkpoints: Path,
    progress: Progress = no_progress,
) -> OwnExperts:
    """Return the experts of passages, in the order given.

    Args:
        hooks: on the base.
        passages: at least one.
        settings: of the training.
        encoder: the store's, by which requests find units.
        checkpoints: a folder to which each finished passage is written. Where it holds some, these
            are not trained again.
        progress: called after each passage.

    Raises:
        DamageError: when experts are not finite.
    """
    weights: tuple[Tensor, Tensor] | None = None
    if settings.passage_readings:
        weights = _learned(hooks, passages, settings, checkpoints, progress)
    vectors = list[Tensor]()
    for number, one in enumerate(passages, start=1):
        asked = [question for question, _, _ in one.of_people]
        told = [with_title(one.heading, unit) for unit in one.units]
        vectors.append(vectors_of(encoder, [*told, *asked]))
        progress("reading sentences", number, len(passages), "")
    return _own(hooks, passages, settings, vectors, weights).requires_grad_(False)


def _learned(
    hooks: Hooks,
    passages: Sequence[Passage],
    settings: TrainingSettings,
    checkpoints: Path,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Return what passages learn, in the order given: down and up (I, L, R, D), mapped."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    about = [[PASSAGE_RECIPE, settings.seed, _about(one)] for one in passages]
    digests = [hashlib.sha256(json.dumps(one).encode()).hexdigest() for one in about]
    paths = [checkpoints / f"{digest}.safetensors" for digest in digests]
    waiting = [number for number, path in enumerate(paths) if not path.is_file()]
    progress("learning passages", len(paths) - len(waiting), len(paths), "")
    for length in ANSWER_LENGTHS:  # a step has one shape
        alike = [number for number in waiting if passages[number].answer_length == length]
        for number, weights in _learn(hooks, passages, alike, settings):
            replace_file(paths[number], save(weights))
            progress("learning passages", sum(path.is_file() for path in paths), len(paths), "")
    learned = mapped_rows([(path, None) for path in paths], checkpoints)
    return learned["down"], learned["up"]


def _learn(
    hooks: Hooks, passages: Sequence[Passage], waiting: Sequence[int], settings: TrainingSettings
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield the numbers of passages, as they are done, with what they learned.

    Their answers have rows of one length.
    """
    if not waiting:
        return
    own = _own(hooks, [passages[waiting[0]]] * SLOTS, settings)
    slots, device = _Slots(hooks, own, settings), hooks.device.type
    # Where no passage waits any more, the last one is learned again, to keep the shape.
    left = iter([*waiting, *[waiting[-1]] * SLOTS])
    held, is_done = list[int](), set[int]()
    with (
        hooks.frozen(),
        fast_training(hooks.base, settings.precision),
        torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"),
    ):
        for place in range(SLOTS):
            held.append(next(left))
            slots.put(place, _Studied(hooks, passages[held[place]], settings))
        while len(is_done) < len(waiting):
            for place in slots.step():
                if held[place] not in is_done:
                    is_done.add(held[place])
                    yield held[place], slots.learned(place)
                held[place] = next(left, waiting[-1])
                slots.put(place, _Studied(hooks, passages[held[place]], settings))


def _own(
    hooks: Hooks,
    passages: Sequence[Passage],
    settings: TrainingSettings,
    vectors: Sequence[Tensor] = (),
    weights: tuple[Tensor, Tensor] | None = None,
) -> OwnExperts:
    is_learned = bool(settings.passage_readings)
    return OwnExperts(
        [
            Item(
                one.document_id,
                title=one.heading,
                units=one.units,
                questions=one.questions if is_learned else one.of_people,
                kept=one.kept,
            )
            for one in passages
        ],
        torch.empty(len(passages), 0, 0),
        [torch.tensor([one.ids[0], *one.title, *one.ids[1:]]).int() for one in passages],
        vectors,
        host_layers=passage_host_layers(len(hooks.layers)),
        width=hooks.width,
        num_experts=settings.passage_experts if is_learned else 0,
        weights=weights,
    ).to(hooks.device)


class _Rows:
    """Rows of one passage, with what the base's lower layers make of them, which stays the same.

    Args:
        rows: their token ids, the last of which is foreseen alone.
        length: to which they are padded. One place at least, here or before, must be padding: with
            nothing to hide transformers leaves the mask away, and other kernels run.
        first: the first layer that carries experts.
        past: what the base has made of tokens before the rows.
        before_RP: int64; 1 where the past holds a token, 0 for padding.
    """

    def __init__(
        self,
        hooks: Hooks,
        rows: Sequence[Sequence[int]],
        length: int,
        first: int,
        past: Any = None,
        before_RP: Tensor | None = None,
    ) -> None:
        self.past = past
        device = hooks.device
        self.ids_RT, mask_RT = pad([row[:-1] for row in rows], 0, length, device)
        self.targets_RT, _ = pad([row[1:] for row in rows], 0, length, device)
        before_RP = mask_RT[:, :0] if before_RP is None else before_RP
        self.mask_RU = torch.cat([before_RP, mask_RT], 1)
        self.weights_RT = mask_RT / mask_RT.sum(1, keepdim=True).clamp_min(1)
        below = max(0, first - 1)
        with torch.no_grad(), hooks.bare(keep_states=[below]) as seen:
            logits_RTW = _read(
                hooks, self.ids_RT, self.mask_RU, _copied([past]) if past else None
            ).logits
        self.states_RTD = seen.states[below]
        self.expected_W = torch.zeros(logits_RTW.shape[-1], device=device)
        for logits_TW, mask_T in zip(logits_RTW, mask_RT, strict=True):
            self.expected_W += mask_T.float() @ logits_TW.float().softmax(-1)
        self.expected_W[self.targets_RT.flatten()] = torch.inf


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
    """A passage that is being learned: its rows, and in which order it reads them."""

    def __init__(self, hooks: Hooks, passage: Passage, settings: TrainingSettings) -> None:
        self.seed = _seed(passage, settings)
        num_own = OWN_TURNS * sum(source != BUILT_IN for _, _, source in passage.questions)
        stretches = max(passage.num_tokens / STRETCH, num_own / QUESTIONS_OF_STRETCH)
        self.num_steps = max(LEAST_STEPS, round(settings.passage_readings * stretches))
        first, draw = passage_host_layers(len(hooks.layers))[0], random.Random(self.seed)
        self.texts = _Rows(
            hooks, draw.sample(passage.texts, len(passage.texts)), TEXT_LENGTH, first
        )
        asked = draw.sample(passage.asked, len(passage.asked))
        self.answers = self._answers(hooks, asked, passage.answer_length, first)
        expected_W = self.texts.expected_W + self.answers.expected_W
        num_weighed = min(WEIGHED_TOKENS, len(expected_W))
        self.weighed_V = expected_W.topk(num_weighed).indices.sort().values

    @torch.no_grad()
    def _answers(self, hooks: Hooks, asked: Sequence[_Asked], length: int, first: int) -> _Rows:
        """Return the answers to questions as rows; what the base makes of these is their past.

        Questions are padded on the left, so that answers stand side by side. A passage without any
        has a row that counts for nothing.
        """
        rows = [(one.prompt[-1], *one.answer) for one in asked] or [(0, 0)]
        prompts = [one.prompt[:-1] for one in asked] or [(0,)]
        backwards = [ids[::-1] for ids in prompts]
        turned_RP, mask_RP = pad(backwards, 0, QUESTION_LENGTH, hooks.device)
        ids_RP, mask_RP = turned_RP.flip(1), mask_RP.flip(1)
        with hooks.bare(), hooks.head_at(torch.zeros_like(mask_RP).bool()):
            past = _read(hooks, ids_RP, mask_RP, None, keeps=True).cache
        return _Rows(hooks, rows, length, first, past, mask_RP)


class _Slots:
    """Passages that are learned side by side; where one is done the next takes its place.

    Each step has the same shape, so that neither neighbours nor places change a passage's bits.
    """

    def __init__(self, hooks: Hooks, own: OwnExperts, settings: TrainingSettings) -> None:
        self._hooks, self._own, self._rate = hooks, own, settings.passage_learning_rate
        self._studied: list[_Studied | None] = [None] * SLOTS
        self._steps = torch.zeros(SLOTS, device=hooks.device)
        self._moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in own.parameters()]

    def put(self, place: int, studied: _Studied) -> None:
        """Let a passage be learned at a place from now on."""
        self._studied[place] = studied
        self._steps[place] = 0
        self._own.reset_item(place, studied.seed)
        for first, second in self._moments:
            first[place], second[place] = 0, 0

    def step(self) -> list[int]:
        """Let every passage read once, and return the places of those that are done."""
        studied = [cast(_Studied, one) for one in self._studied]
        weighed_GV = torch.stack([one.weighed_V for one in studied])
        with self._hooks.head_of(weighed_GV):
            loss = self._loss([one.texts for one in studied], TEXTS, weighed_GV)
            loss = loss + self._loss([one.answers for one in studied], QUESTIONS, weighed_GV)
        gradients = torch.autograd.grad(loss, list(self._own.parameters()))
        self._steps += 1
        nums = torch.tensor([float(one.num_steps) for one in studied], device=self._steps.device)
        rates = (self._steps / WARMUP_STEPS).clamp_max(1) * (1 - (self._steps - 1) / nums)
        with torch.no_grad():
            for one, gradient, moments in zip(
                self._own.parameters(), gradients, self._moments, strict=True
            ):
                self._move(one, gradient, *moments, self._rate * rates)
        return (self._steps >= nums).nonzero()[:, 0].tolist()

    def _move(
        self, one: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rates_G: Tensor
    ) -> None:
        """Make a step of Adam, each place with its own count of steps and rate."""
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient.square(), 1 - BETAS[1])
        steps, rates = (own.view(-1, 1, 1, 1) for own in (self._steps, rates_G))
        mean = first / (1 - BETAS[0] ** steps)
        size = (second / (1 - BETAS[1] ** steps)).sqrt()
        one -= rates * mean / (size + 1e-8)

    def _loss(self, rows: Sequence[_Rows], num: int, weighed_GV: Tensor) -> Tensor:
        """Return the sum over passages of the mean over `num` rows of nats a token."""
        chosen = [
            [(int(step) * num + turn) % len(one.ids_RT) for turn in range(num)]
            for one, step in zip(rows, self._steps.tolist(), strict=True)
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
        return (nats_X * taken("weights_RT").flatten()).sum() / num

    def learned(self, place: int) -> dict[str, Tensor]:
        """Return what was learned at a place: down and up (L, R, D), bf16."""
        own = self._own
        found = {"down": own.down_ILRD[place], "up": own.up_ILRD[place]}
        found = {name: one.detach().bfloat16().cpu() for name, one in found.items()}
        if not all(bool(one.isfinite().all()) for one in found.values()):
            raise DamageError(
                "own experts became infinite; nothing was registered. Lower passage_learning_rate"
            )
        return found


def _about(passage: Passage) -> list[Any]:
    return [passage.num_tokens, passage.texts, passage.asked]


def _seed(passage: Passage, settings: TrainingSettings) -> int:
    about = json.dumps([PASSAGE_RECIPE, settings.seed, _about(passage)])
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:7], "big")
