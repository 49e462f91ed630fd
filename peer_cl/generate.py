"""Writing on from a prompt: the prompt gives the posterior, and one branch writes each row.

Greedily, and with beams, the domain writes whose item the prompt asks for, or the heaviest branch.
Sampling draws the branch by the posterior, which is the mixture.

Shape suffixes: Q branches with the base first, B rows, R rows of one branch, L prompt tokens,
T prompt and new tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peer_cl.errors import InputError, UnsupportedError
from peer_cl.items import FoundItem
from peer_cl.pool import pool_names
from peer_cl.read import Reader, check_text, read


@dataclass(frozen=True)
class PromptWeights:
    """The weight that a prompt gives each branch, and which items it asks for."""

    domains: tuple[str, ...]
    """The domains that some prompt finds, in the order of the branches after the base."""
    weights_QB: Tensor
    """fp64; the posterior at the prompt's end, base first; columns add up to one."""
    writers_B: Tensor
    """int64; the branch that writes greedily: its place, the base's is 0."""
    items_PBT: Mapping[str, Tensor]
    """By domain, which item is active at each token of the prompts; see `peer_cl.items`."""
    found: Mapping[str, Sequence[FoundItem]]
    """By domain, the items that were found."""

    def writer(self, row: int = 0) -> str | None:
        """Return the domain whose pool writes a row greedily; None: the base."""
        number = int(self.writers_B[row])
        return self.domains[number - 1] if number else None


def weigh_prompt(
    model: Reader,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    domains: str | Sequence[str] | None = None,
    evidence_mask: Tensor | None = None,
) -> PromptWeights:
    """Return the weights of the base and of the domains that a prompt finds; args as for `read`."""
    reading = read(
        model,
        input_ids,
        attention_mask,
        routing="prompt",
        domains=domains,
        evidence_mask=evidence_mask,
    )
    active = {
        name: index.active(found, input_ids.shape, is_prompt=True)
        for name, found in reading.items.items()
        if found and (index := model.items(name)) is not None
    }
    return PromptWeights(
        reading.domains, reading.posterior_QBU[..., -1], reading.writers_B, active, reading.items
    )


@torch.no_grad()
def generate(
    model: Reader,
    input_ids: Tensor,
    generation_config: Any = None,
    *,
    attention_mask: Tensor | None = None,
    domains: str | Sequence[str] | None = None,
    oracle: bool = False,
    evidence_mask: Tensor | None = None,
    **options: Any,
) -> Any:
    """Return what the base's own `generate` returns, each row written under one branch's hooks.

    Where no domain is found it is the base's own call, to the bit.

    Args:
        input_ids: (B, L) prompts. In a batch padded on the right, padding is moved to the left
            first, and stands there in the result.
        generation_config: as in transformers; `options` come before it.
        attention_mask: (B, L), 0 for padding.
        domains: let these write, beside the base; default: those that the router finds.
        oracle: with exactly one domain, its pool writes, whatever its weight.
        evidence_mask: (B, L), False for text that is no evidence (templates, earlier answers).
        options: of transformers' `generate` (max_new_tokens, do_sample, num_beams, streamer, ...).

    Returns:
        Where one branch writes all rows, what transformers returns; else ids (B, T), padded on the
        right where a row ended early.

    Raises:
        InputError: when oracle comes without exactly one domain, or prompt and new tokens are
            longer than the base's context.
        UnknownError: for an unknown domain. StateError: for one that is not active.
        UnsupportedError: for return_dict_in_generate where several branches write.
    """
    base, names = model.hooks.base, () if domains is None else pool_names(domains)
    if oracle and len(names) != 1:
        raise InputError(f"oracle=True lets one pool write: name one domain, not {domains}")
    if generation_config is not None:
        options["generation_config"] = generation_config
    num_new = int(_setting(base, options, "max_new_tokens") or 0)
    check_text(base, input_ids, attention_mask, evidence_mask, num_new)
    input_ids = input_ids.to(model.hooks.device)
    attention_mask, evidence_mask = (
        None if one is None else one.to(input_ids.device) for one in (attention_mask, evidence_mask)
    )
    if attention_mask is not None and not bool(attention_mask[:, -1].all()):
        # Padding moves from the right to the left; the tokens keep their order.
        order = attention_mask.long().sort(dim=1, stable=True).indices
        input_ids, attention_mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        evidence_mask = None if evidence_mask is None else evidence_mask.gather(1, order)
    model.check_active(names)
    written_by: tuple[str, ...] = ()
    writers_B = torch.zeros(len(input_ids), dtype=torch.long)
    items: Mapping[str, Tensor] = {}
    if model.active_pools:
        weights = weigh_prompt(
            model, input_ids, attention_mask, domains=domains, evidence_mask=evidence_mask
        )
        written_by, writers_B, items = weights.domains, weights.writers_B, weights.items_PBT
        if oracle:
            writers_B = torch.ones_like(writers_B)
        elif written_by and _setting(base, options, "do_sample"):
            num_each = int(_setting(base, options, "num_return_sequences") or 1)
            if int(_setting(base, options, "num_beams") or 1) == 1 and num_each > 1:
                # Each sequence is a draw of its own.
                options["num_return_sequences"] = 1
                input_ids = input_ids.repeat_interleave(num_each, 0)
                items = {name: own.repeat_interleave(num_each, 0) for name, own in items.items()}
                if attention_mask is not None:
                    attention_mask = attention_mask.repeat_interleave(num_each, 0)
            weights_BQ = weights.weights_QB.T.repeat_interleave(len(input_ids) // len(writers_B), 0)
            writers_B = torch.multinomial(weights_BQ, 1).squeeze(-1)
    branches = (None, *written_by)
    return write_branches(model, branches, writers_B, input_ids, attention_mask, items, options)


def write_branches(
    model: Reader,
    branches: Sequence[str | None],
    writers_B: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    items: Mapping[str, Tensor],
    options: dict[str, Any],
) -> Any:
    """Let each row's branch, given by its place in `branches`, write it; None is the base."""
    base, written = model.hooks.base, []
    numbers = writers_B.unique().tolist()
    if len(numbers) > 1 and _setting(base, options, "return_dict_in_generate"):
        raise UnsupportedError(
            "return_dict_in_generate needs one branch for all rows, and several write here: "
            "generate row by row, or leave it out"
        )
    for number in numbers:
        rows_R = (writers_B == number).nonzero().squeeze(-1)
        name = branches[number]
        own_BT = None if name is None else items.get(name)
        items_RT = None if own_BT is None else own_BT[rows_R]
        with model.hooks.lock if name is None else model.branch(name, items_BT=items_RT):
            ids_RT = base.generate(
                input_ids[rows_R],
                attention_mask=None if attention_mask is None else attention_mask[rows_R],
                **options,
            )
        if len(numbers) == 1:
            return ids_RT
        written.append((rows_R, ids_RT))
    num_each = len(written[0][1]) // len(written[0][0])
    longest = max(ids_RT.shape[1] for _, ids_RT in written)
    all_BT = input_ids.new_full((num_each * len(input_ids), longest), _pad_id(base, options))
    for rows_R, ids_RT in written:
        places_R = rows_R[:, None] * num_each + torch.arange(num_each)
        all_BT[places_R.flatten(), : ids_RT.shape[1]] = ids_RT
    return all_BT


def _pad_id(base: Any, options: dict[str, Any]) -> int:
    pad_id = _setting(base, options, "pad_token_id")
    if pad_id is None:
        ends = _setting(base, options, "eos_token_id")
        pad_id = ends[0] if isinstance(ends, list) else ends
    return int(pad_id or 0)


def _setting(base: Any, options: dict[str, Any], name: str) -> Any:
    """Return an option as transformers finds it: the call's, its config's, or the base's own."""
    given, own = options.get("generation_config"), base.generation_config
    found = (options.get(name), getattr(given, name, None), getattr(own, name, None))
    return next((value for value in found if value is not None), None)
