"""A device that is not there: tensors on it compute on the processor, and refuse to meet others.

torch takes it for an accelerator ("away"). What a test runs there shows where code makes a tensor
on the wrong device, without any GPU: an operation on tensors of both devices raises, as on CUDA,
and so does reading one's memory.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry, CPUAccelerator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

NAME = "away"
_CROSSES = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_", "aten::index_put"}
"""May take tensors of both devices, as they may on CUDA (indices on the processor)."""


class Away(torch.Tensor):
    """A tensor on the device; `inner` holds its numbers."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=f"{NAME}:0",
        )

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        return self.inner.tolist()  # as of a tensor on CUDA, without leave

    def numpy(self, **_):
        raise TypeError(f"can't convert a tensor on {NAME} to numpy; use .cpu() first")

    def __format__(self, spec):
        return format(self.inner, spec)

    def __repr__(self):
        return f"Away({self.inner!r})"


def _is_away(device):
    return device is not None and torch.device(device).type == NAME


def _run(func, args, kwargs):
    leaves = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    on_device = [one for one in leaves if isinstance(one, Away)]
    name = func._schema.name
    if name.startswith("aten::index") and on_device and not isinstance(leaves[0], Away):
        raise RuntimeError(f"{name}: indices on {NAME} into a tensor on the processor")
    if on_device and name not in _CROSSES:
        for one in leaves:
            if not isinstance(one, Away) and one.ndim:
                raise RuntimeError(
                    f"{name}: expected all tensors on {NAME}, found one of shape "
                    f"{tuple(one.shape)} on the processor"
                )
    if on_device and name == "aten::copy_" and not isinstance(args[0], Away):
        args[0].copy_(args[1].inner)
        return args[0]
    goes = kwargs.get("device")
    stays = bool(on_device) if goes is None else _is_away(goes)
    args, kwargs = tree_map(
        lambda one: one.inner if isinstance(one, Away) else one, (args, dict(kwargs))
    )
    if goes is not None:
        kwargs["device"] = torch.device("cpu")
    found = func(*args, **kwargs)
    if func._schema.is_mutable and on_device:
        return leaves[0] if func._schema.returns else None
    if not stays:
        return found
    return tree_map(lambda one: Away(one) if isinstance(one, torch.Tensor) else one, found)


class _Mode(TorchDispatchMode):
    """Makes tensors that are to be made on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_away(kwargs.get("device")):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


class _Hook(_DummyPrivateUse1Hook):
    def is_available(self):
        return getattr(torch, NAME).is_there


class _Module:
    """torch.away."""

    is_there = False

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def is_available(self):
        return self.is_there

    def is_initialized(self):
        return True

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def is_autocast_enabled(self):
        return False

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        pass

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        pass


if not hasattr(torch, NAME):  # pytest imports this file by two names
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module(), hook=_Hook())


class _Accelerator(CPUAccelerator):
    """What Lightning asks of a device."""

    def setup_device(self, device):
        assert device.type == NAME

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device(f"{NAME}:0")] * devices

    @staticmethod
    def is_available():
        return True


AcceleratorRegistry.register(NAME, _Accelerator, override=True)


@contextmanager
def away():
    """Let the device be there inside."""
    getattr(torch, NAME).is_there = True
    # torch.tensor(..., device=...) makes a tensor on the processor, then moves it by the mode.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Mode():
            yield torch.device(f"{NAME}:0")
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        getattr(torch, NAME).is_there = False
