"""A frozen language model with expert pools beside its feed-forwards.

Shape suffixes: Q branches with the base first, P pools, B rows, T tokens, V vocabulary,
U = T + 1 borders between tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self, SupportsIndex

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from peer_cl.asking import ask_pools, warn_of_reset
from peer_cl.attach import Attachment, Watch, pool_segments
from peer_cl.branches import BasePass, are_all_rows, run_branch
from peer_cl.choice import Choice
from peer_cl.errors import InputError, StateError, unknown_name
from peer_cl.inputs import check_host_layers, check_options, check_pool, check_text
from peer_cl.layer import PoolShape
from peer_cl.mixing import read_logits
from peer_cl.mixture import check_name_odds, share
from peer_cl.pool import (
    BaseIdentity,
    ExpertPool,
    Files,
    Segment,
    pool_key,
    pool_names,
    read_pool,
    weights_identity,
)
from peer_cl.reading import read_scores
from peer_cl.scoring import Scores
from peer_cl.served import check_base, check_unchanged, width_of
from peer_cl.signature import (
    Background,
    NearestSearch,
    Signature,
    check_background,
    check_signature,
    nearest_distances,
)
from peer_cl.status import ModelStatus, status_of, trainable_lines
from peer_cl.switch import Switch
from peer_cl.uncopied import no_copy


class PeerModel(nn.Module):
    """A base model, its pools, and the mixture that decides which of them speaks.

    Pools never depend on each other: what one says, whether it is asked, and the mass it gathers
    are functions of the text, the base and itself alone.

    To train a pool, switch its gradients on, give an optimiser `trainable_parameters()`, and run
    its loop inside `frozen_base()`. Never give it `parameters()`: the base's own flags are left
    as they are (docs/decisions/0006), so that its weights would be found there and trained.

    Several threads may call one model, or several on one base: their forwards take turns, and
    writing where no pool can be asked keeps its turn to its end. Adding and deleting pools,
    training, and calling `model.base` directly are not safe beside another thread's call.

    Args:
        base: a causal language model of transformers; its weights are never changed.
        host_layers: the decoder layers that new pools use; the first is the tap.
        signature_layer: whose output signatures read; default: two thirds of the depth.
        identity: the base's hashes; default: hashed here, without a tokenizer.
        background: statistics that signatures need; without them pools are asked only by name,
            or by `ask="all"`.
        budget: b; any scored document loses at most -log(1 - b) nats over the base.
        capacity: how many domains the budget is divided among.
        special_ids: tokens that are never evidence.
        search: the shortlist's search over centroids.
        name_odds: what a pool has beside its share where a given context names its domain, as odds
            against the base. 0: nothing. Above it the bound after such a context is
            `named_bound_nats`; what is asked in other ways (`ask`) keeps its own.

    Raises:
        InputError: when the base is no loaded model, or a layer, the budget or the capacity cannot
            be used.
        ShapeError: when the background statistics are of states of another width.
        StateError: when the base is in training mode.
        UnsupportedError: when the architecture, or a compiled or quantised base, is not served, or
            it is no causal language model.
    """

    special_ids: Tensor
    """Token ids that are never evidence, ascending."""

    def __init__(
        self,
        base: Any,
        *,
        host_layers: Sequence[int],
        signature_layer: int | None = None,
        identity: BaseIdentity | None = None,
        background: Background | None = None,
        budget: float = 0.02,
        capacity: int = 16,
        special_ids: Sequence[int] = (),
        search: NearestSearch = nearest_distances,
        name_odds: float = 0.0,
    ) -> None:
        super().__init__()
        check_base(base)
        self.name_odds = check_name_odds(name_odds)
        self.share = share(budget, capacity)
        self.budget, self.capacity = float(budget), int(capacity)
        self.host_layers, signature_layer = check_host_layers(base, host_layers, signature_layer)
        check_background(background, width_of(base))
        self.base = base
        self.identity = identity or weights_identity(base)
        tap = self.host_layers[0]
        self.attachment = Attachment(base, tap=tap, signature_layer=signature_layer)
        self.background, self.search = background, search
        self.pools = nn.ModuleDict()
        self._names: dict[str, str] = {}
        self._active: tuple[str, ...] | None = None
        self._switch = Switch()
        self.has_warned_unsigned = False
        special = torch.tensor(sorted(special_ids), dtype=torch.long)
        self.register_buffer("special_ids", special, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the pools' mode; the base stays in evaluation, or its dropout would change calls."""
        super().train(mode)
        self.base.eval()
        return self

    def _load_from_state_dict(self, weights: dict[str, Any], prefix: str, *how: Any) -> None:
        # Special tokens are a setting of the model's, and once stood among the weights.
        weights.pop(f"{prefix}special_ids", None)
        super()._load_from_state_dict(weights, prefix, *how)

    @property
    def device(self) -> torch.device:
        """Where the base lies; ids are to be put there."""
        device: torch.device = self.base.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the base's weights."""
        dtype: torch.dtype = self.base.dtype
        return dtype

    @property
    def config(self) -> Any:
        """The base's config, as transformers made it; the pools' settings are in the status."""
        return self.base.config

    # --- pools: PEFT's verbs, with pool for adapter -------------------------------------------

    def add_pool(self, name: str, pool: ExpertPool | PoolShape | None = None) -> ExpertPool:
        """Add a pool under a name; a shape, or nothing, makes a new one.

        A new one is a no-op, but for mode "replace": that silences its feed-forwards until it is
        trained.

        Raises:
            InputError: when the name is no str, or the pool is something else.
            StateError: when the name is taken, the pool is in under another, or the capacity is
                used up.
            ShapeError: when the pool, or its signature, does not fit the base.
        """
        check_pool(name, pool, {known: self.pool(known) for known in self._names})
        if name in self._names:
            raise StateError(f"there is a pool {name!r} already; delete it first")
        if len(self._names) >= self.capacity:
            raise StateError(
                f"{len(self._names)} pools are in, and the budget is shared among {self.capacity}; "
                "delete one, or make a store of a larger capacity"
            )
        if not isinstance(pool, ExpertPool):
            pool = ExpertPool(name, [self.new_segment(pool)])
        check_signature(name, pool.signature, self.attachment.width)
        tap_BTD = torch.zeros(1, 1, self.attachment.width, device=self.base.device)
        with self.attachment.branching(pool_segments(pool), tap_BTD):
            pass
        self._names[name] = key = pool_key(name)
        self.pools[key] = pool.requires_grad_(False).train(self.training)
        return pool

    def new_segment(self, shape: PoolShape | None = None) -> Segment:
        """Return an untrained segment at the model's host layers."""
        return Segment(
            width=self.attachment.width,
            host_layers=self.host_layers,
            shape=shape or PoolShape(),
            inner_width=self.attachment.inner_width,
        )

    def load_pool(self, name: str, files: Files, signature: Signature | None = None) -> ExpertPool:
        """Add the pool whose segments are in these files, oldest first, or in one.

        Raises:
            InputError: when there is no such file.
            DamageError: when tensors are missing, unexpected or corrupt.
            BaseMismatchError: when a file was made for another base or tokenizer.
        """
        return self.add_pool(name, read_pool(name, files, self.identity, signature))

    def delete_pool(self, name: str) -> None:
        """Take a pool out; what remains computes as if it had never been there.

        Warns: where it was the last that `set_pool` let be asked, so that every pool may be again.
        """
        self.pool(name)
        del self.pools[self._names.pop(name)]
        if self._active is not None and name in self._active:
            rest = tuple(active for active in self._active if active != name)
            self._active = rest or None
            if not rest and self._names:
                warn_of_reset(name, sorted(self._names))

    def pool(self, name: str) -> ExpertPool:
        """Return a pool by its name.

        Raises:
            UnknownError: when there is none; the nearest name is given.
        """
        if name not in self._names:
            raise unknown_name("pool", name, self._names)
        pool = self.pools[self._names[name]]
        if not isinstance(pool, ExpertPool):
            raise InputError(f"{name!r} holds a {type(pool).__name__}")
        return pool

    def set_pool(self, names: str | Sequence[str] | None) -> None:
        """Let only these pools be asked; None: every pool."""
        if names is None:
            self._active = None
            return
        wanted = pool_names(names)
        for name in wanted:
            self.pool(name)
        self._active = tuple(dict.fromkeys(wanted))  # one named twice must not enter twice

    @contextmanager
    def disable_pool(self) -> Iterator[None]:
        """Run the bare base inside; may be nested, and ends with an exception too.

        Other threads and tasks go on asking pools, and so does a thread that is started inside.
        """
        with self._switch.off():
            yield

    def check_askable(self, names: str | Sequence[str]) -> None:
        """Refuse names of pools that do not exist, or that `set_pool` left out.

        Inside `disable_pool` nothing is asked, whatever is named.

        Raises:
            UnknownError: for an unknown pool.
            StateError: for a pool that is not active.
        """
        for name in pool_names(names):
            self.pool(name)
            if self._switch.is_on and name not in self.active_pools:
                raise StateError(
                    f"pool {name!r} is not active: set_pool left "
                    f"{', '.join(self.active_pools) or 'none'}; call set_pool(None) to let every "
                    "pool be asked"
                )

    @property
    def active_pools(self) -> tuple[str, ...]:
        """The pools that may be asked, in the order of their names."""
        if not self._switch.is_on:
            return ()
        return tuple(sorted(self._names if self._active is None else self._active))

    def get_model_status(self) -> ModelStatus:
        """Return what the model holds and what is switched on."""
        return status_of(self, self._names, is_enabled=self._switch.is_on)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the pools' parameters that want a gradient: what an optimiser is to be given.

        Raises:
            StateError: when there is none: a pool comes frozen; `pool(name).requires_grad_()`.
        """
        found = [parameter for parameter in self.pools.parameters() if parameter.requires_grad]
        if not found:
            raise StateError(
                f"none of the pools ({', '.join(sorted(self._names)) or 'there is none'}) wants a "
                "gradient: call model.pool(name).requires_grad_() first"
            )
        return found

    @contextmanager
    def frozen_base(self) -> Iterator[None]:
        """Compute no gradient of the base inside; its flags come back as they were at the end."""
        with self.attachment.frozen():
            yield

    def print_trainable_parameters(self) -> None:
        """Print how many parameters of pools want a gradient, of all; then those of the base."""
        print(trainable_lines(self))  # noqa: T201 - PEFT's verb prints

    def detach(self) -> Any:
        """Give the base back as it was, hooks removed; the model is of no use after."""
        self.attachment.detach()
        return self.base

    def __reduce_ex__(self, _: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled.

        Raises: UnsupportedError: always; it says what to do instead.
        """
        raise no_copy(type(self).__name__)

    # --- reading text ---------------------------------------------------------------------------

    @torch.no_grad()
    def score(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        evidence_mask: Tensor | None = None,
        ask: str = "all",
        context_lengths: Tensor | None = None,
        domains: str | Sequence[str] | None = None,
    ) -> Scores:
        """Return every branch's log probability of every token, and when each pool entered.

        By default all active pools are asked, whatever their signatures say: it measures what each
        has to say, where `forward` and `generate` decide who speaks.

        Args:
            input_ids: (B, T); one document a row.
            attention_mask: (B, T), 0 for padding.
            evidence_mask: (B, T), False for text that is no evidence; the base alone predicts it.
            ask: one of ASK.
            context_lengths: (B,), with ask="context": how many tokens are given, padding not
                counted; default: all.
            domains: ask only these (or this one), whatever their signatures say.

        Positions count from a row's first token; `forward` leaves them to the caller.

        Raises:
            InputError: for an unknown way of asking; for what the base cannot read, as longer
                texts than its context.
            ShapeError: when ids or masks are not (B, T); zero tokens are refused too.
            UnknownError: for an unknown pool.
        """
        check_text(self.base, input_ids, attention_mask, None, evidence_mask, context_lengths)
        return read_scores(
            self,
            input_ids,
            attention_mask,
            evidence_mask=evidence_mask,
            ask=ask,
            context_lengths=context_lengths,
            domains=domains,
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        evidence_mask: Tensor | None = None,
        ask: str = "signature",
        context_lengths: Tensor | None = None,
        domains: str | Sequence[str] | None = None,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Return the mixture's logits for given text; in rows that ask no pool, the base's bits.

        No logit depends on a token after it, save through `evidence_mask`, which the caller gives:
        before a token that it masks, the base's logits stand. With ask="context" who is asked, and
        how much a name counts, comes from the whole context: it is for what follows that.

        Special tokens are no evidence, and their own probability is outside the promise, as it is
        in `score`, which leaves them out. Where a separator's or a template's marks are to be
        predicted too, mask them with `evidence_mask`.

        Args: as for `score`; `position_ids` are the model's own default where None; others
            are options of transformers' models, refused where they ask for more than logits.

        Returns:
            logits (B, T, V): the base's own where no pool has entered, else the log of the
            mixture, fp32.

        Raises: as `score`; UnsupportedError: for an option that is not served (labels, caches).
        """
        check_options(others)
        check_text(
            self.base, input_ids, attention_mask, position_ids, evidence_mask, context_lengths
        )
        logits_BTV = read_logits(
            self,
            input_ids,
            attention_mask,
            position_ids,
            evidence_mask=evidence_mask,
            ask=ask,
            context_lengths=context_lengths,
            domains=domains,
        )
        return CausalLMOutputWithPast(logits=logits_BTV)

    def asked(
        self,
        base: BasePass,
        input_ids: Tensor,
        evidence_BT: Tensor,
        ask: str,
        context_lengths: Tensor | None = None,
        domains: str | Sequence[str] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Choice:
        """Return the pools that may be asked and before which token each enters each row."""
        return ask_pools(
            self,
            base,
            input_ids,
            evidence_BT,
            ask,
            context_lengths=context_lengths,
            domains=domains,
            attention_mask=attention_mask,
        )

    def branch_logits(
        self,
        name: str,
        tap_BTD: Tensor,
        rows: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor,
        watch: Watch | None = None,
    ) -> Tensor:
        """Return one pool's logits for some rows of a batch; `watch` is told what its rows read."""
        return run_branch(
            self.attachment,
            pool_segments(self.pool(name)),
            tap_BTD if are_all_rows(rows, len(input_ids)) else tap_BTD[rows],
            input_ids=input_ids[rows],
            attention_mask=attention_mask[rows] if attention_mask is not None else None,
            position_ids=position_ids[rows] if len(position_ids) > 1 else position_ids,
            watch=watch,
        )

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        generation_config: Any = None,
        *,
        inputs: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Write on from a prompt; see `peer_cl.generation.generate` for the options.

        Pools are asked by the whole prompt (`ask="context"`), and their weights held while it
        writes: `forward` goes by what was read so far, `score` asks all.

        The prompts' ids may also be called `inputs`, as transformers does.
        """
        from peer_cl.generation import generate  # generation needs the model's class

        ids = inputs if input_ids is None else input_ids
        if ids is None or (input_ids is not None and inputs is not None):
            raise InputError("generate wants the prompts' ids once, as input_ids or as inputs")
        return generate(self, ids, generation_config, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write pools and settings into a folder; see `peer_cl.saving.save_model`.

        Raises:
            BaseMismatchError: when the base's weights are no longer those that the model was made
                on: the pools would be taken for another base's.
        """
        from peer_cl.saving import save_model  # saving needs the model's class

        check_unchanged(self.base, self.identity)
        save_model(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, base: Any, tokenizer: Any = None) -> PeerModel:
        """Return the model in a folder on its base; see `peer_cl.saving.load_model`.

        The base must have the dtype that the saved model was made in.
        """
        from peer_cl.saving import load_model  # saving needs the model's class

        check_base(base)
        return load_model(Path(folder), base, tokenizer)
