"""Tiny random models of several architectures, pools that change them, and bits compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from families import COMMON, make_base
from torch import Tensor, nn

from peer_cl import Background, ExpertPool, PeerModel, PoolShape, RouterKey
from peer_cl.bases import tensors_sha256
from peer_cl.items import Pairs, RelationSpace, RelationStates
from peer_cl.own import Item, OwnExperts
from peer_cl.read import evidence_tokens
from peer_cl.router import (
    BackgroundWords,
    DomainWords,
    Piece,
    TokenCounts,
    make_words,
    whitening,
)

VOCABULARY = COMMON["vocab_size"]
SPECIAL = (0, 1)
SHAPE = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)

MAIN = ("llama", "gpt2", "gemma3_text")
"""Most tests take these; the others get a quick check."""


def teach(model: PeerModel, name: str, seed: int, scale: float = 0.3) -> None:
    """Give a pool random weights, so that its branch differs from the base."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.pool(name).parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)


def make_model(
    architecture: str = "llama", domains: str = "ab", *, base: Any = None, **options: Any
) -> PeerModel:
    """Return a model with a taught pool for each letter of `domains`."""
    defaults = {"host_layers": (1, 3), "special_ids": SPECIAL, "budget": 0.2, "capacity": 8}
    model = PeerModel(base or make_base(architecture), **defaults | options)
    for name in domains:
        model.add_pool(name, SHAPE)
        teach(model, name, seed=ord(name))
    return model


def make_loud(architecture: str, domains: str, **options: Any) -> PeerModel:
    """Return a model whose base has sharp distributions, so that its pools contradict it."""
    model = make_model(architecture, domains, **{"budget": 0.02} | options)
    inner = model.base.base_model
    (inner.norm if hasattr(inner, "norm") else inner.ln_f).weight.data += 19.0
    return model


def make_ids(num_rows: int = 3, num_tokens: int = 20, seed: int = 1) -> Tensor:
    """Return random token ids, (B, T), none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (num_rows, num_tokens), generator=generator)


# --- router keys ----------------------------------------------------------------------------------

DOMAIN_TOKENS = {"a": (2, 10), "b": (40, 48), "c": (80, 88)}
"""A domain's text, here, is text of eight tokens of its own."""


def text_of(domain: str | None, num_rows: int, num_tokens: int, seed: int) -> Tensor:
    """Return random text of a domain; None: of everything."""
    low, high = DOMAIN_TOKENS[domain] if domain else (2, VOCABULARY)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (num_rows, num_tokens), generator=generator)


def states_of(model: PeerModel, ids: Tensor) -> Tensor:
    """Return the states that the router reads, flattened to (B * T, D)."""
    with torch.no_grad(), model.hooks.bare() as seen:
        model.base(ids)
    return seen.state_BTD.flatten(0, 1)


def give_keys(model: PeerModel) -> None:
    """Give a model background statistics, and each of its pools a key that finds its own text.

    A key's threshold lies between what any text and its own reach, so that a text whose subject
    changes finds it some tokens later.
    """
    text = text_of(None, 24, 40, seed=1)
    states = states_of(model, text)
    mean, matrix = whitening(states)
    words = BackgroundWords(TokenCounts.of(text.tolist()), VOCABULARY, torch.tensor([96]))
    none = torch.empty(0)
    white = Background(mean, matrix, none, none, none, words).whiten(states)
    model.background = Background(
        mean, matrix, white[::7].clone(), white[1:81].half(), torch.tensor([40, 40]), words
    )
    for name in model.get_model_status().pools:
        learned = text_of(name, 8, 40, seed=2)
        own = model.background.whiten(states_of(model, learned))
        pieces = [Piece(str(number), ids) for number, ids in enumerate(learned.tolist())]
        made = make_words(words, pieces)
        model.pool(name).key = RouterKey(
            own[::3].clone(), 0.0, words=(_between(made, words, learned),)
        )


def _between(made: DomainWords, words: BackgroundWords, learned: Tensor) -> DomainWords:
    low, high = (
        float(made.log_odds(ids, words.likelihood(ids)).mean())
        for ids in (text_of(None, 8, 40, seed=3), learned)
    )
    return replace(made, threshold=0.4 * low + 0.6 * high)


# --- items ----------------------------------------------------------------------------------------


def make_space(width: int = 32, threshold: float = 0.8) -> RelationSpace:
    """Return a random space of relations: texts that end alike lie near to each other there."""
    generator = torch.Generator().manual_seed(3)
    last_XE, mean_XE = (torch.randn(2 * width, 16, generator=generator) for _ in range(2))
    return RelationSpace((1, 2), last_XE, mean_XE, torch.zeros(16), torch.zeros(16), threshold)


def make_own(
    items: Sequence[Item], relations_IKE: Tensor, seed: int = 0, texts: Sequence[Tensor] = ()
) -> OwnExperts:
    """Return random own experts, rounded as trained ones are."""
    keys_IKE = relations_IKE.half()
    own = OwnExperts(items, keys_IKE, texts, host_layers=(1, 2), width=32, num_experts=2)
    generator = torch.Generator().manual_seed(seed)
    for parameter in own.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator).bfloat16()
    return own.requires_grad_(False)


SUBJECT = (50, 51)


def asking(seed: int, num_tokens: int = 16) -> Tensor:
    """Return a prompt (1, T) that asks something about the subject, always the same for a seed."""
    ids_BT = make_ids(1, num_tokens, seed)
    ids_BT[0, -8:-6] = torch.tensor(SUBJECT)
    return ids_BT


def give_items(model: PeerModel, name: str, *prompts: Tensor) -> None:
    """Give a pool random own experts of an item for each prompt (1, T) about the subject."""
    space = make_space()
    points = []
    for ids_BT in prompts:
        with torch.no_grad(), model.hooks.bare(keep_states=space.layers) as seen:
            model.base(ids_BT)
        present_BT = torch.ones_like(ids_BT).bool()
        evidence_BT = evidence_tokens(ids_BT, present_BT, model.special_ids)
        begin = int((ids_BT[0] == SUBJECT[0]).nonzero()[-1])
        pairs = Pairs(*(torch.tensor([n]) for n in (0, begin, begin + 2)), (0,))
        states = RelationStates(space, seen.states, evidence_BT, present_BT)
        points.append(states.points(pairs, torch.tensor([[ids_BT.shape[1] - 1]]))[0])
    items = [Item(f"{name} {n}", (SUBJECT,), 3) for n in range(len(prompts))]
    model.background = replace(model.background, relations=space)
    _add_own(model, name, make_own(items, torch.stack(points), seed=ord(name)))


def give_passages(model: PeerModel, name: str, *texts: Tensor) -> None:
    """Give a pool random own experts of each text (1, T), whose first token is its start."""
    items = [Item(f"{name} text {n}") for n in range(len(texts))]
    ids = [ids_BT[0].int() for ids_BT in texts]
    own = make_own(items, torch.empty(len(items), 0, 0), 1 + ord(name), ids)
    _add_own(model, name, own)


def _add_own(model: PeerModel, name: str, own: OwnExperts) -> None:
    pool = model.pool(name)
    model.delete_pool(name)
    model.add_pool(name, ExpertPool(name, pool.chain(), pool.key, [*pool.own_experts(), own]))


# --- bits -----------------------------------------------------------------------------------------


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one type, one shape and the same bytes."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    left, right = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (one, other))
    return bool(torch.equal(left, right))


def portrait(model: nn.Module) -> dict[str, Any]:
    """Return everything about a model that hooks might leave behind."""
    modules = dict(model.named_modules())
    return {
        "weights": tensors_sha256(model.state_dict()),
        "requires_grad": [(name, p.requires_grad) for name, p in model.named_parameters()],
        "training": {name: module.training for name, module in modules.items()},
        "attributes": {name: sorted(module.__dict__) for name, module in modules.items()},
        "hooks": {
            name: {key: len(value) for key, value in vars(module).items() if "hooks" in key}
            for name, module in modules.items()
        },
    }
