"""A frozen language model with expert pools beside its feed-forwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from peer_cl.bases import BaseIdentity, identify
from peer_cl.errors import StateError, unknown_name
from peer_cl.generate import generate
from peer_cl.hooks import Hooks, Watch
from peer_cl.items import ItemIndex
from peer_cl.layer import PoolShape
from peer_cl.mixture import domain_prior
from peer_cl.pool import ExpertPool, Segment, load_segment, pool_names
from peer_cl.read import Reading, left_padded_positions, read
from peer_cl.router import Background, NearestSearch, RouterKey, nearest_distances
from peer_cl.saving import SavedModel, read_folder, write_folder


@dataclass(frozen=True)
class ModelStatus:
    """What a model holds, and what is active."""

    base: str
    host_layers: tuple[int, ...]
    state_layer: int
    pools: tuple[str, ...]
    active_pools: tuple[str, ...]
    is_enabled: bool
    """False inside `disable_pool`."""
    budget: float
    capacity: int


class PeerModel(nn.Module):
    """A base model, its pools, and the mixture of their branches.

    Pools never depend on each other: what one adds, whether it is found, and the mass it gathers
    are functions of the text, the base and itself alone.

    To train a pool, switch its gradients on, give an optimiser `trainable_parameters()`, and run
    its loop inside `frozen_base()`. Never give it `parameters()`: the base's own flags are left
    as they are (docs/decisions/0006), so that its weights would be found there and trained.

    Several threads may read and write with one model: their forwards take turns. Adding and
    deleting pools, training, and calling `model.base` directly are not safe beside other threads.

    Args:
        base: a causal language model of transformers; its weights are never changed.
        host_layers: the decoder layers that new pools use, ascending.
        state_layer: whose output the router reads; default: two thirds of the depth.
        identity: the base's hashes; default: hashed here, without a tokenizer.
        background: statistics that the router needs; without them pools are active only by oracle
            routing or by routing="all".
        budget: b; any scored text loses at most -log(1 - b) nats over the base.
        capacity: how many domains the budget is divided among.
        special_ids: tokens that are never evidence.
        search: the router's search over centroids.
    """

    special_ids: Tensor

    def __init__(
        self,
        base: Any,
        *,
        host_layers: Sequence[int],
        state_layer: int | None = None,
        identity: BaseIdentity | None = None,
        background: Background | None = None,
        budget: float = 0.02,
        capacity: int = 16,
        special_ids: Sequence[int] = (),
        search: NearestSearch = nearest_distances,
    ) -> None:
        super().__init__()
        self.prior = domain_prior(budget, capacity)
        self.budget, self.capacity = budget, capacity
        self.hooks = Hooks(base, state_layer)
        self.hooks.check_layers(host_layers)
        self.base, self.host_layers = base, tuple(host_layers)
        self.identity = identity or identify(base)
        self.background, self.search = background, search
        self.pools = nn.ModuleDict()
        self._modules_by_name: dict[str, str] = {}
        self._chosen: tuple[str, ...] | None = None
        self._is_enabled = True
        special = torch.tensor(sorted(special_ids), dtype=torch.long)
        self.register_buffer("special_ids", special, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the pools' mode; the base stays in evaluation, or its dropout would change calls."""
        super().train(mode)
        self.base.eval()
        return self

    @property
    def config(self) -> Any:
        """The base's config; the pools' settings are in `get_model_status`."""
        return self.base.config

    # What a pipeline of transformers asks of a model.

    @property
    def device(self) -> torch.device:
        """The base's."""
        return self.hooks.device

    @property
    def generation_config(self) -> Any:
        """The base's."""
        return self.base.generation_config

    def can_generate(self) -> bool:
        """Return whether the base writes text."""
        return bool(self.base.can_generate())

    # --- pools: PEFT's verbs, with pool for adapter -------------------------------------------

    def add_pool(self, name: str, pool: ExpertPool | PoolShape | None = None) -> ExpertPool:
        """Add a pool under a name; a shape, or nothing, makes a new one.

        A new one is a no-op, except in mode "replace": that silences its feed-forwards until it is
        trained.
        """
        if name in self._modules_by_name:
            raise StateError(f"there is a pool {name!r} already; delete it first")
        if len(self._modules_by_name) >= self.capacity:
            raise StateError(
                f"the budget is divided among {self.capacity} domains, and there are as many "
                "pools; delete one, or make a model of a larger capacity"
            )
        if not isinstance(pool, ExpertPool):
            pool = ExpertPool(name, [self.new_segment(pool)])
        self.hooks.check_segments(pool.chain())
        # Module names may hold no dots.
        module = "pool_" + quote(name, safe="").replace(".", "%2E")
        self._modules_by_name[name] = module
        self.pools[module] = pool.requires_grad_(False).to(self.device).train(self.training)
        return pool

    def new_segment(self, shape: PoolShape | None = None) -> Segment:
        """Return an untrained segment at the model's host layers."""
        width, shape = self.hooks.width, shape or PoolShape()
        return Segment(width=width, host_layers=self.host_layers, shape=shape)

    def load_pool(
        self, name: str, files: str | Path | Sequence[str | Path], key: RouterKey | None = None
    ) -> ExpertPool:
        """Add the pool whose segments are in these files, oldest first, or in one."""
        paths = [files] if isinstance(files, str | Path) else files
        segments = [load_segment(Path(path), self.identity) for path in paths]
        return self.add_pool(name, ExpertPool(name, segments, key))

    def delete_pool(self, name: str) -> None:
        """Remove a pool; what remains computes as if it had never been there."""
        self.pool(name)
        del self.pools[self._modules_by_name.pop(name)]
        if self._chosen is not None:
            self._chosen = tuple(chosen for chosen in self._chosen if chosen != name)

    def pool(self, name: str) -> ExpertPool:
        """Return a pool by its name; UnknownError gives the nearest one where there is none."""
        if name not in self._modules_by_name:
            raise unknown_name("pool", name, self._modules_by_name)
        return cast(ExpertPool, self.pools[self._modules_by_name[name]])

    def key(self, name: str) -> RouterKey | None:
        """Return the key by which the router finds a pool; None: it never finds it."""
        return self.pool(name).key

    def set_pool(self, names: str | Sequence[str] | None) -> None:
        """Let only these pools be active; None: every pool."""
        wanted = None if names is None else tuple(dict.fromkeys(pool_names(names)))
        for name in wanted or ():
            self.pool(name)
        self._chosen = wanted

    @contextmanager
    def disable_pool(self) -> Iterator[None]:
        """Run the bare base inside; may be nested, and ends with an exception too."""
        was_enabled, self._is_enabled = self._is_enabled, False
        try:
            yield
        finally:
            self._is_enabled = was_enabled

    @property
    def active_pools(self) -> tuple[str, ...]:
        """The pools that may be active, in the order of their names."""
        if not self._is_enabled:
            return ()
        return tuple(sorted(self._modules_by_name if self._chosen is None else self._chosen))

    def check_active(self, names: Sequence[str]) -> None:
        """Raise UnknownError for an unknown pool, StateError for one that `set_pool` left out.

        Inside `disable_pool` none is active, whatever is named.
        """
        for name in names:
            self.pool(name)
            if self._is_enabled and name not in self.active_pools:
                raise StateError(
                    f"pool {name!r} is not active: set_pool left "
                    f"{', '.join(self.active_pools) or 'none'}; call set_pool(None) to let every "
                    "pool be active"
                )

    def items(self, name: str) -> ItemIndex | None:
        """Return a pool's items; None where it has none."""
        found = self.pool(name).items
        return found if found.items else None

    def lowest_layer(self, name: str) -> int:
        """Return the lowest decoder layer that carries experts of a pool."""
        return next(iter(self.pool(name).host_layers), len(self.hooks.layers))

    def branch(
        self, name: str, watch: Watch | None = None, items_BT: Tensor | None = None
    ) -> AbstractContextManager[None]:
        """Run the base as one pool's branch inside; see `Hooks.branch`."""
        pool = self.pool(name)
        return self.hooks.branch(pool.chain(), watch, own=pool.own_experts(), items_BT=items_BT)

    def get_model_status(self) -> ModelStatus:
        """Return what the model holds and what is active."""
        return ModelStatus(
            base=type(self.base).__name__,
            host_layers=self.host_layers,
            state_layer=self.hooks.state_layer,
            pools=tuple(sorted(self._modules_by_name)),
            active_pools=self.active_pools,
            is_enabled=self._is_enabled,
            budget=self.budget,
            capacity=self.capacity,
        )

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the pools' parameters that want a gradient: what an optimiser is to be given."""
        found = [parameter for parameter in self.pools.parameters() if parameter.requires_grad]
        if not found:
            raise StateError("no pool wants a gradient: call model.pool(name).requires_grad_()")
        return found

    def print_trainable_parameters(self) -> None:
        """Print how many parameters of pools want a gradient, of all parameters."""
        trainable = sum(p.numel() for p in self.pools.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.parameters())
        print(  # noqa: T201 - PEFT's verb prints
            f"trainable params: {trainable:,} || all params: {total:,} || "
            f"trainable%: {100 * trainable / total:.4f}"
        )

    def frozen_base(self) -> AbstractContextManager[None]:
        """Compute no gradient of the base inside; its flags come back as they were at the end."""
        return self.hooks.frozen()

    def detach(self) -> Any:
        """Return the base, which holds nothing of this model."""
        return self.base

    # --- reading and writing text ---------------------------------------------------------------

    def score(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        routing: str = "all",
        **options: Any,
    ) -> Reading:
        """Return `peer_cl.read.read` of a text, by default with all active pools.

        It measures what each has to add; `forward` and `generate` decide which are found.
        """
        return read(self, input_ids, attention_mask, routing=routing, **options)

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Return the mixture's logits for given text; args as for `peer_cl.read.read`.

        No logit depends on a token after it, except through `evidence_mask`: before a token that it
        masks, the base's logits stand. With routing="prompt" all of the prompt decides.

        Special tokens are no evidence, and their own probability is outside the bound. Where a
        separator or a template is to be predicted too, mask it with `evidence_mask`.

        Returns:
            logits (B, T, V): the base's own bits where no domain is found, else the log of the
            mixture, fp32.
        """
        if position_ids is None and left_padded_positions(self.base, attention_mask) is not None:
            # `read` would count from each row's first token; the base, called so, does not.
            position_ids = torch.arange(input_ids.shape[1])[None]
        reading = read(self, input_ids, attention_mask, position_ids, keep_logits=True, **options)
        return CausalLMOutputWithPast(logits=reading.logits_BTV)

    def generate(self, input_ids: Tensor, generation_config: Any = None, **options: Any) -> Any:
        """Write on from a prompt; see `peer_cl.generate.generate` for the options."""
        return generate(self, input_ids, generation_config, **options)

    # --- saving ---------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write every pool and setting into a folder; the base is not copied.

        Router keys tell how often each token stands in what a pool learned, and are saved too.

        Raises:
            BaseMismatchError: when the base's weights are no longer those that the model was made
                on: the pools would be taken for another base's.
        """
        replace(self.identity, weights_sha256=identify(self.base).weights_sha256).check(
            self.identity, "the model"
        )
        pools = {name: self.pool(name) for name in sorted(self._modules_by_name)}
        settings = {
            "host_layers": list(self.host_layers),
            "state_layer": self.hooks.state_layer,
            "budget": self.budget,
            "capacity": self.capacity,
            "special_ids": self.special_ids.tolist(),
            "chosen": None if self._chosen is None else list(self._chosen),
        }
        write_folder(Path(folder), SavedModel(settings, pools, self.background), self.identity)

    @classmethod
    def from_pretrained(cls, folder: str | Path, base: Any, tokenizer: Any = None) -> PeerModel:
        """Return the model that `save_pretrained` wrote into a folder, on its base.

        Raises:
            StoreFormatError: when the folder holds no saved model.
            BaseMismatchError: for another base, dtype or tokenizer; both hashes are shown.
            DamageError: when a file is missing or its bytes changed.
        """
        identity = identify(base, tokenizer)
        saved = read_folder(Path(folder), identity)
        chosen = saved.settings.pop("chosen")
        model = cls(base, identity=identity, background=saved.background, **saved.settings)
        for name, pool in saved.pools.items():
            model.add_pool(name, pool)
        model.set_pool(chosen)
        return model
