"""What `python -m benchmarks speed` measures, on an accelerator; refused where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks import speed
from benchmarks.results import Figure
from peer_cl.devices import CPU, pick_device
from peer_cl.errors import StateError


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the accelerator's name and all figures of speed on it; options as there."""
    device = pick_device()
    if device.type == CPU:
        raise StateError(
            "torch finds no accelerator here, or PEER_CL_DEVICE is cpu: "
            "`python -m benchmarks speed` measures on the processor"
        )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [Figure("device", name), *speed.measure(arguments)]
