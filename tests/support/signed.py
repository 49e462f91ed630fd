"""Signatures and background statistics for tiny models, built from their own states."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from tiny import VOCABULARY
from torch import Tensor

from peer_cl import Background, PeerModel, Signature
from peer_cl.branches import read_states
from peer_cl.shortlist import token_evidence
from peer_cl.signature import whitening
from peer_cl.words import OrdinaryWords, Piece, TokenCounts, Words, make_words

DOMAIN_TOKENS = {"a": (2, 10), "b": (40, 48), "c": (80, 88)}
"""A domain's text, here, is text of eight tokens of its own."""


def text_of(domain: str | None, num_rows: int, num_tokens: int, seed: int) -> Tensor:
    """Return random text of a domain; None: of everything."""
    low, high = DOMAIN_TOKENS[domain] if domain else (2, VOCABULARY)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (num_rows, num_tokens), generator=generator)


def states_of(model: PeerModel, ids: Tensor) -> Tensor:
    """Return the states that signatures read, (B, T, D)."""
    return read_states(model.attachment, ids, torch.ones_like(ids))[1]


def sign(model: PeerModel, *, has_words: bool = True) -> None:
    """Give a model background statistics, and each of its pools a signature that separates.

    A pool's threshold lies between what any text and its own text show, nearer to its own, so that
    a text whose subject changes asks it some tokens later.

    Args:
        model: tiny, with pools.
        has_words: or states decide alone, as in stores of before words counted.
    """
    ordinary = text_of(None, 24, 40, seed=1)
    states = states_of(model, ordinary).flatten(0, 1)
    mean, matrix = whitening(states)
    white = (states - mean) @ matrix
    words = OrdinaryWords(TokenCounts.of(ordinary.tolist()), VOCABULARY) if has_words else None
    held = torch.tensor([40, 40])
    model.background = Background(mean, matrix, white[::7], white[1:81], held, words)
    for name in model.get_model_status().pools:
        learned = text_of(name, 8, 40, seed=2)
        own = model.background.whiten(states_of(model, learned).flatten(0, 1))
        trial = Signature(own[::3].clone(), 0.0, math.inf)
        texts = [text_of(domain, 8, 40, seed=3) for domain in (None, name)]
        low, high = (
            token_evidence(
                states_of(model, ids),
                ids,
                torch.ones(8, 40, dtype=torch.bool),
                background=model.background,
                signatures=[trial],
            ).log_odds_BTP.mean()
            for ids in texts
        )
        threshold = float(low + 0.6 * (high - low))
        model.pool(name).signature = Signature(
            trial.centroids_CD,
            threshold,
            math.inf,
            words=() if words is None else (_words(words, learned),),
        )


def _words(ordinary: OrdinaryWords, learned: Tensor) -> Words:
    """Return a text's words, with a threshold between what any text and this one reach."""
    pieces = [Piece(str(number), ids) for number, ids in enumerate(learned.tolist())]
    made = make_words(ordinary, pieces)
    means = [
        float(made.log_odds(ids, ordinary.likelihood(ids)).mean())
        for ids in (text_of(None, 8, 40, seed=3), learned)
    ]
    return replace(made, threshold=0.4 * means[0] + 0.6 * means[1])
