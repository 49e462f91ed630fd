"""Where a model computes: the one place that decides."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from peer_cl.errors import InputError

if TYPE_CHECKING:  # the command line reads the variable's name, and loads no torch for it
    import torch
    from torch import Tensor

AUTO, CPU = "auto", "cpu"
DEVICE_VARIABLE = "PEER_CL_DEVICE"


def pick_device(wanted: str = AUTO) -> torch.device:
    """Return a device by its name ("cpu", "cuda", "cuda:1", "mps"), the one to use.

    "auto" is what the environment's PEER_CL_DEVICE says, else the machine's accelerator, else its
    processor.

    Raises: InputError: when this machine, or this build of torch, has no such device.
    """
    import torch

    if wanted == AUTO:
        wanted = os.environ.get(DEVICE_VARIABLE) or AUTO
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if wanted == AUTO:
        return there or torch.device(CPU)
    names = [CPU, *([there.type] if there else [])]
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in names:
        raise InputError(
            f"there is no device {wanted!r} here: torch {torch.__version__} finds "
            f"{' and '.join(names)}; give one of these, or auto"
        )
    return device


def brought(owner: object, device: torch.device, *names: str) -> tuple[Tensor, ...]:
    """Return some of an object's tensors on a device, brought there once."""
    kept: dict[tuple[object, ...], tuple[Tensor, ...]] = vars(owner).setdefault("_brought", {})
    if (device, *names) not in kept:
        kept[device, *names] = tuple(getattr(owner, name).to(device) for name in names)
    return kept[device, *names]
