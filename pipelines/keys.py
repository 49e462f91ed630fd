"""Background statistics and router keys, made from what the base reads.

Thresholds look at held-out background text and at the domain's own text alone: never at another
domain, so that none changes another's, and never at the sources that measure the outcome.

Shape suffixes: B rows, T tokens, X tokens of several texts, D width, C centroids, V vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.hooks import Hooks
from peer_cl.router import (
    Background,
    BackgroundWords,
    DomainWords,
    Piece,
    RouterKey,
    TokenCounts,
    make_words,
    white_evidence,
    whitening,
)
from peer_cl.terms import make_terms
from pipelines.batches import Row, group_by_length, pad, tokenise
from pipelines.progress import Progress, no_progress
from pipelines.settings import reading
from stores.index import kmeans

READ_TOKENS = 1024
"""Padded tokens a pass where texts are only read."""
MAX_STATES = 2**15
"""Of a larger corpus every n-th state of a row is kept: k-means looks at no more, and all states of
two million tokens would take 5 GB."""
BACKGROUND_CENTROIDS = 256
DOMAIN_CENTROIDS = 128
MAX_HELD_TEXTS, MAX_HELD_TOKENS = 128, 24
"""How many held-out background texts a store keeps for thresholds, and how many states of each,
evenly spaced."""
BEGINNING_TOKENS = 49
"""How much of each background text training may read, the start token included."""
BACKGROUND_QUANTILE = 0.995
"""Share of held-out background texts that must stay below a key's threshold."""
FIT = 0.7
"""A long text must fit this well: 0 is background text's mean, 1 that of the domain's own text;"""
FIT_SLACK = 1.2
"""a text of n tokens this much over the root of n less."""
CUTOFF = 2.0
"""A token's squared distance, over the width, counts for no more; the median in background text
is 1.1."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no whole character."""


@dataclass(frozen=True)
class ReadTexts:
    """What the base makes of some texts."""

    states: list[Tensor]
    """For each text (T - 1, D): its states at the state layer, the start token left out."""
    nats: list[float]
    """The base's loss on each, summed over its tokens without the end token; 0 where only states
    were wanted."""


def read_texts(
    hooks: Hooks,
    texts: Sequence[Sequence[int]],
    *,
    end_id: int | None,
    precision: str,
    what: str,
    progress: Progress = no_progress,
    only_states: bool = False,
) -> ReadTexts:
    """Run the base over texts, given as token ids with the start token first, once.

    `end_id` ends a document and is no part of its text. `precision` is of the base's products:
    "fp32" or "bf16". `only_states` computes no losses, which saves the head.
    """
    states: list[Tensor] = [torch.empty(0)] * len(texts)
    nats = [0.0] * len(texts)
    every = -(-sum(map(len, texts)) // MAX_STATES)
    done = 0
    with reading(hooks.base, precision):
        for group in group_by_length([len(ids) for ids in texts], READ_TOKENS):
            ids_BT, mask_BT = pad(
                [texts[number] for number in group], pad_id=0, device=hooks.device
            )
            text_BT = is_text(ids_BT, mask_BT, end_id)
            predicts_BT = torch.zeros_like(text_BT) if only_states else text_BT.roll(-1, 1)
            with hooks.bare() as seen, hooks.head_at(predicts_BT):
                logits_XV = hooks.base(
                    input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                ).logits[0]
            if not only_states:
                for number, loss in zip(group, text_nats(logits_XV, ids_BT, text_BT), strict=True):
                    nats[number] = loss
            for place, number in enumerate(group):
                own_TD = seen.state_BTD[place, 1 : len(texts[number]) : every]
                states[number] = own_TD.float().cpu().clone()
            done += len(group)
            progress(what, done, len(texts), "")
    return ReadTexts(states, nats)


def is_text(ids_BT: Tensor, mask_BT: Tensor, end_id: int | None) -> Tensor:
    """Return which tokens are a text's own: neither its start, nor its end, nor padding.

    Example:
        >>> ids = torch.tensor([[0, 5, 6, 0], [0, 7, 0, 0]])
        >>> is_text(ids, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), end_id=0).tolist()
        [[False, True, True, False], [False, True, False, False]]
    """
    text_BT = mask_BT.bool() & (ids_BT != (-1 if end_id is None else end_id))
    text_BT[:, 0] = False
    return text_BT


def text_nats(logits_XV: Tensor, ids_BT: Tensor, text_BT: Tensor) -> list[float]:
    """Return the loss of each row, summed over its tokens of text, in fp64.

    `logits_XV` are those at the positions before these tokens, row after row.
    """
    nats_X = functional.cross_entropy(logits_XV.float(), ids_BT[text_BT], reduction="none")
    rows = nats_X.double().split(text_BT.sum(-1).tolist())
    return [float(row.sum()) for row in rows]


def make_background(
    tokenizer: Any,
    fitting: Sequence[Tensor],
    held: Sequence[Tensor],
    texts: Sequence[Sequence[int]],
    whole_texts: Sequence[str],
) -> Background:
    """Return background statistics.

    States of the texts `fitting` give mean, covariance and centroids; those of `held` give keys
    their thresholds. Words are counted in `whole_texts`, which may be more and longer.
    """
    fitting_XD = torch.cat(list(fitting))
    mean_D, whitening_DD = whitening(fitting_XD)
    none = torch.empty(0)
    words = _background_words(tokenizer, whole_texts)
    plain = Background(mean_D, whitening_DD, none, none, none, words)
    whites = [plain.whiten(evenly(states_TD, MAX_HELD_TOKENS)) for states_TD in held]
    return replace(
        plain,
        centroids_CD=_kmeans(plain.whiten(fitting_XD), BACKGROUND_CENTROIDS, seed=0),
        held_XD=torch.cat(whites).half(),
        held_lengths=torch.tensor([len(one) for one in whites]),
        beginnings=beginnings_of(texts),
        terms_V=make_terms(_each_token(tokenizer)),
    )


def beginnings_of(texts: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return how texts begin, as training may read it."""
    return tuple(tuple(ids[:BEGINNING_TOKENS]) for ids in texts)


def evenly(states_TD: Tensor, num: int) -> Tensor:
    """Return at most so many rows, evenly spaced, the first and the last among them.

    Example:
        >>> evenly(torch.arange(7)[:, None], 3).flatten().tolist()
        [0, 3, 6]
    """
    if len(states_TD) <= num:
        return states_TD
    return states_TD[torch.linspace(0, len(states_TD) - 1, num).round().long()]


def _background_words(tokenizer: Any, texts: Sequence[str]) -> BackgroundWords:
    special = set(tokenizer.all_special_ids)
    rows = (_words_only(ids, special) for ids in tokenise(tokenizer, texts))
    marks_M = _mark_ids(tokenizer)
    # The embedding may be padded to a round number of tokens; no text holds the others.
    vocabulary = max(1, len(tokenizer) - len(marks_M))
    return BackgroundWords(TokenCounts.of(rows).without(marks_M), vocabulary, marks_M)


def _words_only(ids: Sequence[int], special: Collection[int]) -> list[int]:
    return [token for token in ids if token not in special]


def _mark_ids(tokenizer: Any) -> Tensor:
    """Return the tokens without a letter, which are no words: int64, ascending.

    Where texts are cut into bytes, a piece of a letter that takes several is a word's.
    """
    texts = _each_token(tokenizer)
    marks = [token for token, text in enumerate(texts) if not any(map(_is_of_word, text))]
    return torch.tensor(marks, dtype=torch.long)


def _each_token(tokenizer: Any) -> list[str]:
    decoded: list[str] = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return decoded


def _is_of_word(sign: str) -> bool:
    return sign == _REPLACEMENT or unicodedata.category(sign)[0] in "LM"


def make_router_key(
    background: Background,
    learned: Sequence[Tensor],
    own: Sequence[Tensor],
    words: DomainWords,
    seed: int,
) -> RouterKey:
    """Return a segment's router key from the states (T, D) of its texts, and their words.

    Those of `learned` texts give the centroids. Those of the domain's `own` texts that it did not
    learn show how well its new text fits, whole or by its first half; where there is none, the
    learned ones stand in.
    """
    white_XD = torch.empty(sum(map(len, learned)), background.mean_D.shape[0])
    # Piece by piece: a list beside the whole would take as much memory again.
    for states_TD, white_TD in zip(learned, white_XD.split([*map(len, learned)]), strict=True):
        white_TD.copy_(background.whiten(states_TD))
    key = RouterKey(_kmeans(white_XD, DOMAIN_CENTROIDS, seed), 0.0, cutoff=CUTOFF)
    held = background.held_XD.float().split(background.held_lengths.tolist())
    held_means_X2 = _means(background, key, held)
    whites = [background.whiten(states_TD) for states_TD in own or learned]
    # A prompt is often the start of a text, and the start may lie farther out.
    starts = [white_TD[: (len(white_TD) + 1) // 2] for white_TD in whites]
    own_fit = min(_mean_fit(key, _means(background, key, texts)) for texts in (whites, starts))
    background_fit = _mean_fit(key, held_means_X2)
    return replace(
        key,
        # Zero log odds: as likely the domain's as background. Never below what background reaches.
        threshold=max(float(held_means_X2[:, 0].float().quantile(BACKGROUND_QUANTILE)), 0.0),
        least_fit=background_fit + FIT * (own_fit - background_fit),
        fit_slack=FIT_SLACK * (own_fit - background_fit),
        words=(words,),
    )


def _means(background: Background, key: RouterKey, whites: Sequence[Tensor]) -> Tensor:
    """Return each text's mean log odds and squared distance over the width: fp64 (X, 2)."""
    rows = []
    for white_TD in whites:
        log_odds_T1, distance_T1 = white_evidence(white_TD, background, [key])
        rows.append([float(log_odds_T1.mean()), float(distance_T1.mean())])
    return torch.tensor(rows, dtype=torch.float64)


def _mean_fit(key: RouterKey, means_X2: Tensor) -> float:
    return float(key.fit_of(means_X2[:, 0], means_X2[:, 1]).mean())


def segment_words(
    background: Background,
    rows: Sequence[Row],
    near_groups: Mapping[str, str],
    special_ids: Collection[int],
) -> DomainWords:
    """Return the words of the documents that a segment learned.

    `near_groups` holds, by document id, the group that near-duplicates share.
    """
    return make_words(
        background.words,
        [Piece(near_groups[row.document_id], _words_only(row.ids, special_ids)) for row in rows],
    )


def grow_router_key(older: RouterKey, new: RouterKey) -> RouterKey:
    """Return the key of a domain that grew: both segments' centroids, the wider limits.

    Words stay apart: each segment's have a threshold that goes with their own counts.
    """
    return RouterKey(
        torch.cat([older.centroids_CD, new.centroids_CD]),
        min(older.threshold, new.threshold),
        least_fit=min(older.least_fit, new.least_fit),
        fit_slack=max(older.fit_slack, new.fit_slack),
        cutoff=max(older.cutoff, new.cutoff),
        words=(*older.words, *new.words),
    )


def _kmeans(vectors_XD: Tensor, num: int, seed: int) -> Tensor:
    return torch.from_numpy(kmeans(vectors_XD.numpy(), num, seed))
