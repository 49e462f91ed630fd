"""How the base multiplies while documents are read and pools are trained.

Pools always compute and learn in fp32, and every score and every text that is written comes from
the base in its own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


def resolve_precision(wanted: str) -> str:
    """Return "fp32" or "bf16"; "auto" asks what the processor multiplies faster.

    By capability, not by a stopwatch: the same machine must always choose the same, or a run could
    not be repeated to the bit.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if _is_faster_in_bf16(torch.cpu.get_capabilities()) else "fp32"


def _is_faster_in_bf16(found: Mapping[str, Any]) -> bool:
    """Return whether a processor with these capabilities gains by bf16.

    AVX512_BF16 doubles fp32's rate on AMD's processors and halves it on Intel's, whose way is AMX.
    """
    if found.get("amx_bf16", False):
        return True
    is_intel = str(found.get("cpu_name", "")).startswith("Intel")
    return bool(found.get("avx512_bf16", False)) and not is_intel


@contextmanager
def cast_once(model: nn.Module, precision: str) -> Iterator[None]:
    """Keep a bf16 copy of each of the frozen model's matrices inside, for use under autocast.

    autocast keeps the casts of weights that learn; a frozen one it casts anew in every call. The
    products are the same to the bit, and the weights themselves stay untouched.

    Args:
        model: frozen; its linear layers are called under autocast inside.
        precision: "bf16"; with "fp32" nothing is done.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    if precision != "bf16":
        layers = []
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.__dict__["forward"] = _product(layer)
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = forward


def _product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach().to(torch.bfloat16)
    bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)

    def forward(inputs: Tensor) -> Tensor:
        return functional.linear(inputs.to(torch.bfloat16), weight, bias)

    return forward


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """Let attention on a CPU be plain products and a softmax inside.

    The backward pass of the fused kernel takes longer than theirs at the lengths of documents:
    measured on two cores at 64 tokens, a step is 6 % faster without it.
    """
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def reading(model: nn.Module, precision: str) -> Iterator[None]:
    """Let the model read texts inside in a precision, "fp32" or "bf16"; no gradient is kept.

    For states that only say roughly where a text lies; never for scores.
    """
    device = next(model.parameters()).device.type
    with (
        cast_once(model, precision),
        torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"),
        torch.no_grad(),
    ):
        yield
