"""Where a model computes: the one place that decides."""

from __future__ import annotations

import os

import torch

from peer_cl.errors import InputError

AUTO, CPU = "auto", "cpu"
DEVICE_VARIABLE = "PEER_CL_DEVICE"


def pick_device(wanted: str = AUTO) -> torch.device:
    """Return a device by its name ("cpu", "cuda", "cuda:1", "mps"), the one to use.

    "auto" is what the environment's PEER_CL_DEVICE says, else the machine's accelerator, else its
    processor.

    Raises: InputError: when this machine, or this build of torch, has no such device.
    """
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
