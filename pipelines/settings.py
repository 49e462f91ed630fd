"""How a segment is trained, and in which precision the base multiplies meanwhile.

The sentence under each setting is its help text. Experts always compute and learn in fp32, and
every score and every text that is written comes from the base in its own precision.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from peer_cl.devices import CPU
from peer_cl.errors import InputError, StateError, unknown_name
from peer_cl.layer import PoolShape

RECIPE = 8
"""What the settings mean: raised when the same ones would train other weights than before."""
_POSITIVE = (
    "text_passes",
    "expert_learning_rate",
    "own_learning_rate",
    "passage_learning_rate",
    "key_learning_rate",
)
_LEAST = {
    "num_shards": 1,
    "own_experts": 1,
    "own_steps": 1,
    "passage_experts": 1,
    "passage_readings": 0,
    "study_questions": 0,
    "background_output_weight": 0,
    "background_kl_weight": 0,
    "tokens_per_step": 2,
    "max_tokens": 2,
    "min_steps": 1,
    "warmup_steps": 0,
    "validations": 0,
    "patience": 1,
    "seed": 0,
}
_SHARES = ("upper_scale",)
_MAX_SEED = 2**31 - 1  # FAISS takes no larger one
_MALLOC = {"trim_threshold": -1, "top_pad": -2, "mmap_threshold": -3}
"""glibc's mallopt parameters, from its malloc.h."""
# oneDNN keeps the code of so many shapes of products, more than a step needs. With its own 1,024,
# and batches of many lengths, that took 180 MB more. It looks here at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


@dataclass(frozen=True)
class TrainingSettings:
    """How a segment is trained. The defaults come from docs/LOG.md."""

    shape: PoolShape = field(default_factory=PoolShape)
    """Shape of the pool in each host layer."""
    hold_out_percent: float = 0.0
    """Percentage of texts held out, most of them to measure on, some to stop early by. With 0 the
    ingest also learns texts that the domain has held out so far, where they are given again."""
    num_shards: int = 1
    """Parts in which a domain's shared experts are trained, independent of each other; a document's
    id names its part. Of two, one is trained anew when a document is erased: in half the time, but
    unseen text is foreseen worse by a tenth of a nat."""
    text_passes: float = 1.5
    """How often each text is read."""
    own_experts: int = 8
    """Experts that each fact owns in each of nine host layers."""
    own_steps: int | None = None
    """Steps in which a fact is learned, half of them in changed wordings; default: 8 where the
    store has a learned start, else 24."""
    own_learning_rate: float = 0.02
    """Learning rate of facts' experts; it rises in three steps and falls linearly to zero."""
    passage_experts: int = 16
    """Experts that each passage of a text owns in each of five host layers."""
    passage_readings: int | None = None
    """Steps for every 64 tokens of a passage; default: 4 where the store has a learned start, else
    8. With 0 passages learn nothing of their own: they are
    found, and a question is answered by reading them alone."""
    passage_learning_rate: float = 0.045
    """Learning rate of passages' experts; it rises in two steps and falls likewise."""
    study_questions: int = 20
    """Questions that are made of each passage, at most, and learned with it."""
    background_output_weight: float = 0.02
    """Weight, against the loss in nats, of the squared length of what the segment adds in
    background text."""
    background_kl_weight: float = 0.1
    """Weight, against the loss in nats, of the KL divergence from the base's predictions to the
    pool's in background text."""
    upper_scale: float = 0.8
    """Factor on the output of the upper third of host layers, applied once after training: it
    spares background text and improves unseen text of the domain."""
    tokens_per_step: int = 160
    """Padded tokens an optimiser step."""
    max_tokens: int = 512
    """Longest training row; a longer document is read in pieces."""
    expert_learning_rate: float = 6e-3
    """Learning rate of the experts."""
    key_learning_rate: float = 1e-3
    """Learning rate of the query networks and sub-keys."""
    min_steps: int = 30
    """Fewest steps of a run; a corpus too small for them is read more often."""
    warmup_steps: int = 10
    """Steps of linear warm-up; after them the learning rates fall linearly to zero."""
    validations: int = 3
    """How often the validation documents are scored during a run."""
    patience: int = 2
    """Stop when this many validations in a row are no better than the best one."""
    precision: str = "auto"
    """Precision of the base's matrix products: fp32, bf16, or auto (bf16 where it is faster)."""
    seed: int = 0
    """Seed of the initialisation and of the order of steps."""

    def __post_init__(self) -> None:
        """Check every number; InputError names the field and its value."""
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and one.type in ("int", "float", "int | None"):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise InputError(f"{one.name} must be a number, not {value!r}")
                if one.type != "float" and not isinstance(value, int):
                    raise InputError(f"{one.name} must be a whole number, not {value}")
                if not math.isfinite(value):
                    raise InputError(f"{one.name} must be finite, not {value}")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if not 0 <= self.hold_out_percent < 100:
            raise InputError(
                "hold_out_percent must be at least 0 and below 100, so that something is left to "
                f"train on, not {self.hold_out_percent}"
            )
        if self.seed > _MAX_SEED:
            raise InputError(f"seed must be at most {_MAX_SEED}, not {self.seed}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise InputError(f"precision must be auto, fp32 or bf16, not {self.precision!r}")

    def begun(self, starts: Mapping[str, tuple[Tensor, Tensor]]) -> TrainingSettings:
        """Return the settings with what depends on where experts begin.

        Args:
            starts: by kind of items, as `peer_cl.router.Background` has them. One that is of
                another number of experts is not used.
        """
        sizes = {kind: down_LRD.shape[1] for kind, (down_LRD, _) in starts.items()}
        own_steps = 8 if sizes.get("facts") == self.own_experts else 24
        readings = 4 if sizes.get("passages") == self.passage_experts else 8
        return replace(
            self,
            own_steps=own_steps if self.own_steps is None else self.own_steps,
            passage_readings=readings if self.passage_readings is None else self.passage_readings,
        )

    @classmethod
    def from_toml(cls, path: str | Path) -> TrainingSettings:
        """Return the settings in a TOML file; what it does not name has its default.

        Raises: InputError: when the file cannot be read, or names or values are wrong.
        """
        try:
            named = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"settings file {path} cannot be read: {error}") from None
        shape = named.pop("shape", {})
        if not isinstance(shape, dict):
            raise InputError(f"settings file {path}: [shape] must be a table, not {shape!r}")
        for kind, found in ((cls, named), (PoolShape, shape)):
            known = {one.name for one in fields(kind)}
            for name in found.keys() - known:
                raise unknown_name(f"setting in {path}", name, known)
        return cls(**named, shape=PoolShape(**shape))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, with the recipe that gives them their meaning."""
        return {"recipe": RECIPE, **asdict(self)}

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings that `to_dict` wrote.

        Raises: StateError: when their recipe is another: the run would train other weights.
        """
        named = dict(recorded)
        recipe = named.pop("recipe", None)
        names = {one.name for one in fields(cls)}
        if recipe != RECIPE or named.keys() != names:
            raise StateError(
                f"these training settings are of recipe {recipe}, this version trains by recipe "
                f"{RECIPE}: remove the domain and ingest its corpus again"
            )
        return cls(**{**named, "shape": PoolShape(**named["shape"])})


# Precision


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; "auto" is whichever a device multiplies faster.

    By capability, not by a stopwatch: a machine must always choose the same, or a run could not be
    repeated to the bit.
    """
    if wanted != "auto":
        return wanted
    if device.type == CPU:
        is_faster = _is_faster_in_bf16(torch.cpu.get_capabilities())
    else:
        is_faster = device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    return "bf16" if is_faster else "fp32"


def _is_faster_in_bf16(found: Mapping[str, Any]) -> bool:
    """Return whether a processor gains by bf16.

    AVX512_BF16 doubles fp32's rate on AMD's processors and halves it on Intel's, which have AMX.

    Example:
        >>> _is_faster_in_bf16({"avx512_bf16": True, "cpu_name": "Intel Xeon"})
        False
        >>> _is_faster_in_bf16({"avx512_bf16": True, "cpu_name": "AMD EPYC"})
        True
    """
    if found.get("amx_bf16", False):
        return True
    is_intel = str(found.get("cpu_name", "")).startswith("Intel")
    return bool(found.get("avx512_bf16", False)) and not is_intel


@contextmanager
def reading(model: nn.Module, precision: str) -> Iterator[None]:
    """Run a frozen model inside without gradients and, for "bf16", under autocast.

    For states and losses that need not be exact; scores are never read so.
    """
    device = next(model.parameters()).device.type
    with (
        cast_once(model, precision),
        torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"),
        torch.no_grad(),
    ):
        yield


@contextmanager
def fast_training(model: nn.Module, precision: str) -> Iterator[None]:
    """Make training steps through a frozen model faster inside, without changing their meaning.

    On a CPU attention is plain products and a softmax: the backward pass of the fused kernel takes
    longer at the lengths of documents (a step is 6 % faster without it, two cores, 64 tokens).
    """
    is_cpu = next(model.parameters()).device.type == CPU
    with (
        freed_memory_kept(),
        cast_once(model, precision),
        sdpa_kernel(SDPBackend.MATH) if is_cpu else nullcontext(),
    ):
        yield


@contextmanager
def cast_once(model: nn.Module, precision: str) -> Iterator[None]:
    """Keep a bf16 copy of each matrix of a frozen model inside, for use under autocast.

    autocast casts a frozen weight anew in every call. The products are the same to the bit, and the
    weights stay untouched. With "fp32" nothing is done.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    if precision != "bf16":
        layers = []
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.__dict__["forward"] = _bf16_product(layer)
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = forward


def _bf16_product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach().to(torch.bfloat16)
    bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)

    def forward(inputs: Tensor) -> Tensor:
        return functional.linear(inputs.to(torch.bfloat16), weight, bias)

    return forward


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep up to 1 GB of freed memory inside; elsewhere nothing is done.

    A step frees and asks for the same large tensors again. Giving them back to the system each time
    costs a fifth of a step in page faults (two cores). Behind it all is given back: what lies
    between tensors of many sizes would add up from one part of an ingest to the next.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(libc, "mallopt"):  # musl has none
        yield
        return
    _set_malloc(libc, mmap_threshold=1 << 30, trim_threshold=1 << 30, top_pad=64 << 20)
    try:
        yield
    finally:
        # What glibc's own thresholds grow to at most: those for growing ended when they were set.
        _set_malloc(libc, mmap_threshold=32 << 20, trim_threshold=64 << 20, top_pad=128 << 10)
        libc.malloc_trim(0)


def _set_malloc(libc: Any, **bytes_of: int) -> None:
    for name, num_bytes in bytes_of.items():
        libc.mallopt(_MALLOC[name], num_bytes)
