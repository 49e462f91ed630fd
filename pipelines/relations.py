"""The base's space of relations, learned once from background prompts.

Background prompts are made by a rule from shipped text (`data/relations.txt`): relations asked in
several wordings about made-up subjects, and background sentences into which a subject is put. In
the space, wordings of one relation are to lie near to each other and far from all sentences that
only name a subject. No set that is reported takes part.

Shape suffixes: N prompts, X numbers of a prompt's states, E width of the space, A prompts of a
training step, M naming sentences of one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.hooks import Hooks
from peer_cl.items import Pairs, RelationSpace, directions, window_means
from pipelines.batches import group_by_length, num_shared, pad, tokenise
from pipelines.facts import Fact, Relation, changed_prompt, folded_wording
from pipelines.keys import READ_TOKENS
from pipelines.progress import Progress, no_progress
from pipelines.settings import reading

NUM_PROMPTS = 6000
_NAMING_SHARE, _CHANGED_SHARE = 0.3, 0.15
"""Of the prompts: sentences that only name a subject, and changed wordings; the rest is asked in
wordings of the file."""
_HELD_SHARE = 0.15
"""Share of the relations, and of naming sentences, that set the threshold."""
MOST_NAMING = 0.05
"""Share of the held-out naming sentences that may look as if they asked."""
DEPTHS = (0.4, 0.53)
"""Where in the base the space reads states."""
WIDTH, STEPS, LEARNING_RATE, TEMPERATURE = 64, 600, 3e-3, 0.07
DROPOUT, NAMING_WEIGHT, BATCH = 0.6, 8.0, 256
# ruff: noqa: SIM905 - as lists these take a line a syllable.
_HEADS = "b br c d dr f g gl h k kr l m n p pl r s st t tr v w z".split()
_MIDDLES = "a e i o u ai ea ou".split()
_ENDS = ["", "", "n", "r", "l", "s", "t", "m"]
_KINDS = "tower tribe fever wheel river valley machine disease plant society".split()


@dataclass(frozen=True)
class BackgroundPrompt:
    """A prompt, its subject and its relation; None: it only names the subject."""

    text: str
    subject: str
    relation: int | None


def make_relation_space(
    hooks: Hooks, tokenizer: Any, texts: Sequence[str], progress: Progress = no_progress
) -> RelationSpace:
    """Return a base's space of relations.

    Args:
        hooks: on the base.
        tokenizer: the base's.
        texts: background text, for naming sentences and for words.
        progress: called as the work goes on.
    """
    depth = len(hooks.layers)
    layers = tuple(sorted({min(depth - 1, round(part * depth)) for part in DEPTHS}))
    prompts = background_prompts(texts, NUM_PROMPTS)
    states_N2X = read_prompts(hooks, tokenizer, prompts, layers, progress)
    return fit_space(states_N2X, prompts, layers)


def relations() -> list[Relation]:
    """Return the shipped relations."""
    lines = (Path(__file__).parent / "data" / "relations.txt").read_text(encoding="utf-8")
    found = []
    for line in lines.splitlines():
        if line and not line.startswith("#"):
            name, *wordings = line.replace("{s}", "{subject}").split("|")
            found.append(Relation(name, wordings[0], tuple(wordings[1:])))
    return found


def background_prompts(texts: Sequence[str], num: int) -> list[BackgroundPrompt]:
    """Return background prompts: always the same ones for the same texts."""
    draw, known = random.Random(0), relations()
    windows = [words for text in texts if (words := text.split())]
    words = [word for text in windows for word in text]
    names = sorted({one for text in texts for one in re.findall(_NAME, text)}) or ["Anna"]
    found = []
    for _ in range(num):
        number = draw.randrange(len(known))
        subject = _subject(draw, names, words)
        fact = known[number].fact(subject, "-")
        kind = draw.random()
        if kind < _NAMING_SHARE:
            found.append(BackgroundPrompt(_naming(draw, windows, subject), subject, None))
        elif kind < _NAMING_SHARE + _CHANGED_SHARE:
            changed = changed_prompt(replace(fact, paraphrase_prompts=()), words, draw)
            found.append(BackgroundPrompt(changed, subject, number))
        else:
            text = draw.choice([fact.taught_prompt, *fact.paraphrase_prompts])
            found.append(BackgroundPrompt(text, subject, number))
    return found


_NAME = r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*"


def _subject(draw: random.Random, names: Sequence[str], words: Sequence[str]) -> str:
    """Return a made-up name, one from background text, or a few words."""
    kind = draw.random()
    if kind < 0.45:
        return " ".join(_word(draw).capitalize() for _ in range(draw.choice([1, 2])))
    if kind < 0.65:
        return draw.choice(names)
    if kind < 0.8:
        at = draw.randrange(len(words))
        phrase = " ".join(words[at : at + draw.randint(1, 2)])
        phrase = re.sub(r"[^\w -]", "", phrase).strip().lower()
        return phrase if len(phrase) > 2 else _word(draw).capitalize()
    return f"the {_word(draw)} {draw.choice(_KINDS)}"


def _word(draw: random.Random) -> str:
    return "".join(
        draw.choice(_HEADS) + draw.choice(_MIDDLES) + draw.choice(_ENDS)
        for _ in range(draw.choice([1, 2, 2, 3]))
    )


def _naming(draw: random.Random, windows: Sequence[Sequence[str]], subject: str) -> str:
    """Return a piece of background text with the subject put in, cut off somewhere behind it."""
    if draw.random() < 0.33:
        piece = _piece(draw, windows, 6, 16)
        piece.insert(draw.randrange(1, len(piece) + 1), subject)
        return " ".join(piece)
    before, after = _piece(draw, windows, 2, 9), _piece(draw, windows, 1, 4)
    return " ".join([*before, subject, *after[: draw.randint(0, len(after))]])


def _piece(
    draw: random.Random, windows: Sequence[Sequence[str]], least: int, most: int
) -> list[str]:
    text, num = draw.choice(windows), draw.randint(least, most)
    at = draw.randrange(max(1, len(text) - num))
    return list(text[at : at + num])


def read_prompts(
    hooks: Hooks,
    tokenizer: Any,
    prompts: Sequence[BackgroundPrompt],
    layers: Sequence[int],
    progress: Progress = no_progress,
) -> Tensor:
    """Return what the base makes of prompts: (N, 2, X), the last token's states and the mean."""
    rows = tokenise(tokenizer, [one.text for one in prompts])
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    with reading(hooks.base, "fp32"):
        done = 0
        for group in group_by_length([len(ids) for ids in rows], READ_TOKENS):
            ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0, device=hooks.device)
            with (
                hooks.bare(keep_states=layers) as seen,
                hooks.below(max(layers) + 1),
                hooks.head_at(torch.zeros_like(mask_BT).bool()),
            ):
                hooks.base(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
            flat_BTX = directions([seen.states[layer].cpu() for layer in layers])
            mask_BT = mask_BT.cpu()
            counted_BT = mask_BT.bool()
            counted_BT[:, 0] = False
            spans = [subject_span(tokenizer, prompts[n].text, prompts[n].subject) for n in group]
            begins_A, ends_A = torch.tensor(spans).T
            pairs = Pairs(torch.arange(len(group)), begins_A, ends_A, ())
            at_A1 = mask_BT.sum(1, keepdim=True) - 1
            means_AX = window_means(flat_BTX, counted_BT, pairs, at_A1)[:, 0]
            lasts_AX = flat_BTX[torch.arange(len(group)), at_A1[:, 0]]
            for number, *both in zip(group, lasts_AX, means_AX, strict=True):
                found[number] = torch.stack(both)
            done += len(group)
            progress("reading background prompts", done, len(rows), "")
    return torch.stack(found)


def subject_span(tokenizer: Any, text: str, subject: str) -> tuple[int, int]:
    """Return the subject's first token and the one after its last, with the start token counted.

    (0, 0) where it does not stand in the text.
    """
    at = text.find(subject)
    if at < 0:
        return 0, 0
    whole = tokenise(tokenizer, [text])[0]
    before = text[:at].rstrip()
    begin = num_shared(tokenise(tokenizer, [before])[0], whole) if before else 1
    end = num_shared(tokenise(tokenizer, [text[: at + len(subject)]])[0], whole)
    return begin, max(begin + 1, end)


def fit_space(
    states_N2X: Tensor, prompts: Sequence[BackgroundPrompt], layers: Sequence[int]
) -> RelationSpace:
    """Return the space that tells the relations of prompts apart, and those that ask from others.

    Contrastive: each prompt's nearest should be another wording of its relation, among prompts that
    ask something else and sentences that ask nothing. Some relations and sentences are held out;
    these set the threshold.
    """
    inputs_NX = states_N2X.flatten(1).float()
    mean_X, scale_X = inputs_NX.mean(0), 1 / (inputs_NX.std(0) + 1e-6)
    inputs_NX = (inputs_NX - mean_X) * scale_X / len(mean_X) ** 0.5
    relation_N = torch.tensor([-1 if one.relation is None else one.relation for one in prompts])
    num_held = round(_HELD_SHARE * (int(relation_N.max()) + 1))
    is_held_N = (relation_N >= 0) & (relation_N < num_held)
    naming = (relation_N < 0).nonzero().squeeze(-1)
    is_held_N[naming[: round(_HELD_SHARE * len(naming))]] = True
    generator = torch.Generator().manual_seed(0)
    matrix_XE = torch.randn(len(mean_X), WIDTH, generator=generator) / WIDTH**0.5
    matrix_XE.requires_grad_(True)
    asking = ((relation_N >= 0) & ~is_held_N).nonzero().squeeze(-1)
    naming = ((relation_N < 0) & ~is_held_N).nonzero().squeeze(-1)
    optimiser = torch.optim.AdamW([matrix_XE], lr=LEARNING_RATE, weight_decay=1e-3)
    with torch.enable_grad():
        for _ in range(STEPS):
            chosen, others = (
                one[torch.randint(len(one), (num,), generator=generator)]
                for one, num in ((asking, BATCH), (naming, BATCH // 2))
            )
            asked_AE, naming_ME = (
                functional.normalize(_dropped(inputs_NX[some], generator) @ matrix_XE, dim=-1)
                for some in (chosen, others)
            )
            loss = _contrast(asked_AE, naming_ME, relation_N[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    matrix_XE = matrix_XE.detach() * scale_X[:, None] / len(mean_X) ** 0.5
    last_XE, mean_XE = matrix_XE.split(len(mean_X) // 2)
    space = RelationSpace(
        tuple(layers),
        last_XE.contiguous(),
        mean_XE.contiguous(),
        -mean_X @ matrix_XE,
        torch.zeros(WIDTH),
        0.0,
    )
    points_NE = space.points(states_N2X[:, 0], states_N2X[:, 1])
    means_RE = torch.stack(
        [
            points_NE[(relation_N == number) & ~is_held_N].mean(0)
            for number in relation_N[asking].unique().tolist()
        ]
    )
    space = replace(space, usual_E=functional.normalize(means_RE, dim=-1).mean(0))
    return replace(space, threshold=_threshold(space, states_N2X, relation_N, is_held_N))


def _dropped(inputs_AX: Tensor, generator: torch.Generator) -> Tensor:
    kept_AX = torch.rand(inputs_AX.shape, generator=generator) >= DROPOUT
    return inputs_AX * kept_AX / (1 - DROPOUT)


def _contrast(asked_AE: Tensor, naming_ME: Tensor, relation_A: Tensor) -> Tensor:
    """Return the mean negative log share of other wordings of a prompt's relation."""
    itself_AA = torch.eye(len(asked_AE), dtype=torch.bool)
    like_AA = (asked_AE @ asked_AE.T / TEMPERATURE).masked_fill(itself_AA, -torch.inf)
    naming_AM = asked_AE @ naming_ME.T / TEMPERATURE + torch.tensor(NAMING_WEIGHT).log()
    all_A = torch.cat([like_AA, naming_AM], 1).logsumexp(1)
    same_AA = (relation_A[:, None] == relation_A) & ~itself_AA
    shares_A = torch.where(same_AA, like_AA - all_A[:, None], 0.0).sum(1)
    has_other_A = same_AA.any(1)
    loss: Tensor = -(shares_A / same_AA.sum(1).clamp_min(1))[has_other_A].mean()
    return loss


def _threshold(
    space: RelationSpace, states_N2X: Tensor, relation_N: Tensor, is_held_N: Tensor
) -> float:
    """Return the score that few held-out naming sentences reach.

    Each is compared with some held-out wordings of one relation, as with an item's keys.
    """
    points_NE = space.points(states_N2X[:, 0], states_N2X[:, 1])
    naming_ME = points_NE[is_held_N & (relation_N < 0)]
    best = [
        space.scores(
            naming_ME, points_NE[is_held_N & (relation_N == number)][: 1 + len(KEY_FRAMES)]
        )
        for number in relation_N[is_held_N & (relation_N >= 0)].unique().tolist()
    ]
    return float(torch.cat(best).quantile(1 - MOST_NAMING))


# Keys of items


KEY_FRAMES = (
    "for {subject}, the {relation} is",
    "what is the {relation} of {subject}? the answer is",
    "which {relation} belongs to {subject}? Answer:",
    "Name: {subject}. {relation}:",
    "the {relation} of {subject}:",
)
"""Wordings by a relation's name that give an item keys beside its own wording. Changed wordings, as
they are learned from, found fewer questions (docs/LOG.md)."""
MOST_NAME_WORDS = 4
"""A relation of more words is a wording itself, which no frame fits: the fact's own is its key."""


def relation_keys(
    hooks: Hooks, tokenizer: Any, space: RelationSpace, facts: Sequence[Fact]
) -> Tensor:
    """Return what facts are found by in the space of relations: (N, K, E), fp16.

    A fact's keys depend on no other fact: its prompts are read alone, since the rounding of a batch
    depends on what else is in it.
    """
    keys = []
    for fact in facts:
        framed = [one.format(subject=fact.subject, relation=fact.relation) for one in KEY_FRAMES]
        if len(fact.relation.split()) > MOST_NAME_WORDS:
            framed = [fact.taught_prompt] * len(KEY_FRAMES)
        # What is kept to be asked gives no key.
        kept = {folded_wording(one) for one in fact.paraphrase_prompts}
        framed = [one if folded_wording(one) not in kept else fact.taught_prompt for one in framed]
        prompts = [BackgroundPrompt(one, fact.subject, 0) for one in (fact.taught_prompt, *framed)]
        states_K2X = read_prompts(hooks, tokenizer, prompts, space.layers)
        keys.append(space.points(states_K2X[:, 0], states_K2X[:, 1]).half())
    return torch.stack(keys)


_BRACKETS = re.compile(r"(?<=\S)\s*[(\[].*$")


def subject_spellings(subject: str, tokenizer: Any) -> tuple[tuple[int, ...], ...]:
    """Return a subject as token ids: after a blank and at a text's beginning, as it is written,
    without what follows in brackets, and in other case.

    One of a single token counts only as it is written: "turkey" is not Turkey.
    """
    plain = subject.strip()
    names = list(dict.fromkeys([plain, _BRACKETS.sub("", plain)]))
    for name in list(names):
        if len(tokenizer(f" {name}", add_special_tokens=False).input_ids) > 1:
            names += [name.lower(), name[0].upper() + name[1:]]
    texts = [text for name in dict.fromkeys(names) for text in (f" {name}", name)]
    found = tokenizer(texts, add_special_tokens=False).input_ids
    return tuple(sorted({tuple(ids) for ids in found if ids}))
