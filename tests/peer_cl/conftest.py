"""Tiny random models with pools that say something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import CONFIGS, SHAPE, SPECIAL, VOCABULARY, make_base, teach

from peer_cl import PeerModel


@pytest.fixture(params=sorted(CONFIGS))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[(1, 3), (0, 2), (2,)], ids=["tap1", "tap0", "tap2"])
def host_layers(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return tuple(request.param)


@pytest.fixture
def make_model() -> Callable[..., PeerModel]:
    """Return a maker of models with pools that say something."""

    def make(
        architecture: str = "llama",
        pools: tuple[str, ...] = ("a", "b"),
        host_layers: tuple[int, ...] = (1, 3),
        **options: Any,
    ) -> PeerModel:
        options = {"budget": 0.2, "capacity": 8, "special_ids": SPECIAL, **options}
        model = PeerModel(make_base(architecture), host_layers=host_layers, **options)
        for name in pools:
            model.add_pool(name, SHAPE)
            teach(model, name, seed=sum(map(ord, name)))
        return model

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))
