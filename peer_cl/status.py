"""What a model holds and what is switched on, for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peer_cl.model import PeerModel


@dataclass(frozen=True)
class ModelStatus:
    """What a model holds and what is switched on."""

    base: str
    host_layers: tuple[int, ...]
    tap: int
    signature_layer: int
    pools: tuple[str, ...]
    active_pools: tuple[str, ...]
    is_enabled: bool
    budget: float
    capacity: int
    num_base_parameters: int
    num_pool_parameters: int


def status_of(model: PeerModel, pools: Iterable[str], *, is_enabled: bool) -> ModelStatus:
    """Return what a model holds and what is switched on.

    Args:
        model: the model.
        pools: the names of all its pools.
        is_enabled: False inside `disable_pool`.
    """
    return ModelStatus(
        base=type(model.base).__name__,
        host_layers=model.host_layers,
        tap=model.attachment.tap,
        signature_layer=model.attachment.signature_layer,
        pools=tuple(sorted(pools)),
        active_pools=model.active_pools,
        is_enabled=is_enabled,
        budget=model.budget,
        capacity=model.capacity,
        num_base_parameters=sum(p.numel() for p in model.base.parameters()),
        num_pool_parameters=sum(p.numel() for p in model.pools.parameters()),
    )


def trainable_lines(model: PeerModel) -> str:
    """Return how many parameters want a gradient: pools' of all, and, where there are, the base's.

    The base's flags are left alone (docs/decisions/0006), so that they usually say that it does.
    """
    trainable = sum(p.numel() for p in model.pools.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    lines = (
        f"trainable params: {trainable:,} || all params: {total:,} || "
        f"trainable%: {100 * trainable / total:.4f}"
    )
    flagged = sum(p.numel() for p in model.base.parameters() if p.requires_grad)
    if not flagged:
        return lines
    return (
        f"{lines}\nbase params with requires_grad: {flagged:,} || not to be trained: give an "
        "optimiser model.trainable_parameters(), not model.parameters()"
    )
