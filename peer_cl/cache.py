"""What is kept between the steps of a generation: the base's cache, the branches', and the past.

Shape suffixes: B rows, R rows of one branch, L tokens so far, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from peer_cl.branches import branch_cache, select_rows
from peer_cl.errors import InputError


class BranchState:
    """One branch's own cache from the tap up, for the rows that asked its pool."""

    def __init__(self, config: Any, tap: int, rows_R: Tensor) -> None:
        self.rows_R = rows_R
        self.cache = branch_cache(config, tap)
        self.last_RV: Tensor | None = None
        """Logits after the prompt, from the pass that read it."""

    def keep(self, rows_R: Tensor) -> None:
        """Keep only some of the rows; `rows_R` are numbers of batch rows."""
        self.reorder(rows_R, rows_R)

    def reorder(self, new_rows_R: Tensor, from_rows_R: Tensor) -> None:
        """Let batch row `new_rows_R[i]` take over what `from_rows_R[i]` held."""
        places = torch.searchsorted(self.rows_R, from_rows_R)
        select_rows(self.cache, places)
        self.rows_R = new_rows_R
        if self.last_RV is not None:
            self.last_RV = self.last_RV[places]


class PeerCache(DynamicCache):
    """A dynamic cache for the base that carries the branches and the past along.

    Layers below the tap are the trunk's. The base's upper layers may lag behind where it was
    dropped; `states_BLD` lets any branch catch up.

    Args:
        config: the base's.
        tap: the first layer that runs in a branch.
    """

    def __init__(self, config: Any, tap: int) -> None:
        super().__init__(config=config)
        self.config, self.tap = config, tap
        self.ids_BL: Tensor | None = None
        """The tokens that were read, padding included."""
        self.states_BLD: Tensor | None = None
        self.signature_BLD: Tensor | None = None
        self.position_ids_BL: Tensor | None = None
        self.branches: dict[str, BranchState] = {}
        self.num_written = 0
        """Tokens at the end of an earlier call that the model wrote: no evidence."""
        self.prompt_end = 0
        self.evidence_BL: Tensor | None = None
        self.masses_QB: Tensor | None = None
        """Unrounded log masses after the last prompt, base first."""
        self.pools: tuple[str, ...] = ()

    def check_prompt(self, input_ids: Tensor, tap: int) -> None:
        """Refuse a prompt that does not go on from what was read: the past would be another text's.

        Args:
            input_ids: (B, T), the whole text: what was read before, and more.
            tap: the model's.

        Raises:
            InputError: with the taps, the rows, the lengths, or the first token that differs.
        """
        if self.tap != tap:
            raise InputError(
                f"the cache was made for branches from layer {self.tap} on, and the model's start "
                f"at layer {tap}: make it with PeerCache(model.base.config, model.attachment.tap)"
            )
        if self.ids_BL is None:
            return
        num_rows, num_read = self.ids_BL.shape
        if self.get_seq_length() != num_read:
            raise InputError(
                f"the cache was left in the middle of a step ({num_read} tokens, then "
                f"{self.get_seq_length()}): begin a new PeerCache"
            )
        if len(input_ids) != num_rows:
            raise InputError(
                f"the prompt has {len(input_ids)} rows and the cache {num_rows}: give as many, or "
                "begin a new PeerCache"
            )
        whole = "give the whole text so far, as generate returned it, and more; or begin a new "
        if input_ids.shape[1] <= num_read:
            raise InputError(
                f"the prompt has {input_ids.shape[1]} tokens, and the cache has read {num_read}: "
                f"{whole}PeerCache"
            )
        differs_BL = input_ids[:, :num_read] != self.ids_BL.to(input_ids.device)
        if bool(differs_BL.any()):
            row, place = differs_BL.nonzero()[0].tolist()
            raise InputError(
                f"token {place} of row {row} is {int(input_ids[row, place])}, and the cache has "
                f"read {int(self.ids_BL[row, place])} there: {whole}PeerCache"
            )

    def remember(
        self, ids_BT: Tensor, states_BTD: Tensor, signature_BTD: Tensor | None, positions: Tensor
    ) -> None:
        """Add new tokens, and what the trunk made of them."""
        positions = positions.expand(len(states_BTD), -1)
        if signature_BTD is None:
            signature_BTD = torch.zeros_like(states_BTD)
        self.ids_BL = ids_BT if self.ids_BL is None else torch.cat([self.ids_BL, ids_BT], 1)
        if self.states_BLD is None or self.signature_BLD is None or self.position_ids_BL is None:
            self.states_BLD, self.signature_BLD = states_BTD, signature_BTD
            self.position_ids_BL = positions
            return
        self.states_BLD = torch.cat([self.states_BLD, states_BTD], 1)
        self.signature_BLD = torch.cat([self.signature_BLD, signature_BTD], 1)
        self.position_ids_BL = torch.cat([self.position_ids_BL, positions], 1)

    def note_written(self, prompt_end: int) -> None:
        """Note that what was read past a prompt, and one token more, the model wrote itself.

        The last token that it writes is read by nobody, and is heard even by a streamer that stops
        it there. A call that ended before it read its prompt wrote nothing.

        Args:
            prompt_end: how many tokens the prompt of the call has.
        """
        if self.evidence_BL is not None and self.evidence_BL.shape[1] == prompt_end:
            self.prompt_end, self.num_written = prompt_end, self.get_seq_length() + 1

    @property
    def base_length(self) -> int:
        """How many tokens the base's upper layers have seen."""
        return int(self.layers[self.tap].get_seq_length())

    def base_branch(self) -> DynamicCache:
        """Return the base's upper layers as a branch's cache, to catch up where they lag."""
        return branch_cache(self.config, self.tap, self.layers[self.tap :])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder the base's layers, the past, and every branch, as beams move.

        Beams never leave their own prompt, so the rows that a branch holds stay the same set.
        """
        super().reorder_cache(beam_idx)
        for name in ("ids_BL", "states_BLD", "signature_BLD", "position_ids_BL"):
            kept = getattr(self, name)
            if kept is not None:
                setattr(self, name, kept[beam_idx])
        for branch in self.branches.values():
            new_rows_R = torch.isin(beam_idx, branch.rows_R).nonzero().squeeze(-1)
            branch.reorder(new_rows_R, beam_idx[new_rows_R])
