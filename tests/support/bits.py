"""Comparing tensors and models bit by bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peer_cl.pool import tensors_sha256


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one type, one shape and the same bytes."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    left, right = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (one, other))
    return bool(torch.equal(left, right))


def portrait(model: nn.Module) -> dict[str, Any]:
    """Return everything about a model that attaching pools to it might leave behind."""
    modules = dict(model.named_modules())
    return {
        "weights": tensors_sha256(model.state_dict()),
        "requires_grad": [(name, p.requires_grad) for name, p in model.named_parameters()],
        "training": {name: module.training for name, module in modules.items()},
        "attributes": {name: sorted(module.__dict__) for name, module in modules.items()},
        "forwards": {name: module.__dict__.get("forward") for name, module in modules.items()},
        "hooks": {
            name: {
                key: list(value.items()) if isinstance(value, dict) else sorted(value)
                for key, value in module.__dict__.items()
                if "hooks" in key and isinstance(value, dict | set)
            }
            for name, module in modules.items()
        },
    }
