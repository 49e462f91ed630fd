"""What a training run may be told; each field's sentence becomes its help text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from peer_cl.errors import InputError, StateError
from peer_cl.layer import PoolShape

_POSITIVE = (
    "text_passes",
    "fact_passes",
    "answer_weight",
    "row_learning_rate",
    "key_learning_rate",
)
_LEAST = {
    "quiet_tokens": 1,
    "tokens_per_step": 2,
    "max_tokens": 2,
    "least_steps": 1,
    "warmup_steps": 0,
    "validations": 0,
    "patience": 1,
}
_MOST_SEED = 2**31 - 1
RECIPE = 2
"""What the settings mean: raised when the same ones would train other weights than before. Since 2
each step reads a beginning of ordinary text; before, every second one did, with twice the
weight."""
_UNNUMBERED = 1
"""Of every run whose record has no number."""
_BEFORE = {"least_steps": 1, "upper_share": 1.0, "hold_out_percent": 23.0}
"""What runs did before there was a setting for it."""
_TOLD_IF_OTHER = ("hold_out_percent",)
"""Settings that a record leaves out where they say what runs did before: so that such a run has the
record, and the checkpoint, that it always had."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a segment is trained. The defaults come from docs/LOG.md."""

    shape: PoolShape = field(default_factory=PoolShape)
    """The pool's shape in each host layer."""
    hold_out_percent: float = 23.0
    """About how many of a hundred documents are held out: never trained on, most of them to measure
    on, some to stop early by. 0: none is but near copies of what is held out already, and documents
    that an earlier ingest held out are learned where they are given again."""
    text_passes: float = 1.5
    """How often each document is read."""
    fact_passes: float = 10.0
    """How often each fact is read."""
    varied_share: float = 0.5
    """Share of a fact's readings in other words: in sentences that fit any relation by its name,
    and with the words around its subject changed at random."""
    reworded_passes: float = 1.0
    """How often each rewording of a document is read, where there are any."""
    answer_weight: float = 4.0
    """Weight in the loss of a fact's answer and of what its statement says behind it; every other
    token has 1."""
    quiet_weight: float = 0.02
    """How strongly a pool learns to say nothing to ordinary text: the weight, beside the loss in
    nats, of the squared length of what it adds there. 0: not at all."""
    quiet_tokens: int = 96
    """Tokens of ordinary text that each step looks at for that."""
    kl_weight: float = 0.1
    """How strongly a pool learns to leave predictions of ordinary text as the base makes them: the
    weight, beside the loss in nats, of the KL divergence from the base's to the pool's, mean over
    the tokens with which a text begins, the first left out. 0: not at all."""
    upper_share: float = 0.8
    """What is kept, at the end, of what the pool has learned to add in the upper third of its host
    layers: less of it spares ordinary text and serves unseen text of the domain. 1: all."""
    tokens_per_step: int = 160
    """Padded tokens an optimiser step."""
    max_tokens: int = 512
    """Longest row; longer documents are trained on in pieces."""
    row_learning_rate: float = 6e-3
    """Learning rate of the experts' rows."""
    key_learning_rate: float = 1e-3
    """Learning rate of the query networks and sub-keys."""
    least_steps: int = 30
    """Fewest steps of a run: a corpus too small for them is read more often, in all its kinds
    alike."""
    warmup_steps: int = 10
    """Steps of linear warm-up; after them the rate falls linearly to zero."""
    validations: int = 3
    """How often the validation documents are scored during the run."""
    patience: int = 2
    """Stop when so many validations in a row are worse than the best; the last weights stay."""
    precision: str = "auto"
    """Of the base's products in training: fp32, bf16, or auto: bf16 where it is faster."""
    seed: int = 0
    """Of the initialisation and the order."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be trained with.

        Raises:
            InputError: naming the field and the value.
        """
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.type == "int" and not isinstance(value, int):
                raise InputError(f"{setting.name} must be a whole number, not {value!r}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if math.isnan(value) or math.isinf(value):
                raise InputError(f"{name} must be finite, not {value}")
            if value <= 0:
                raise InputError(f"{name} must be positive, not {value}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.seed <= _MOST_SEED:
            raise InputError(f"seed must lie between 0 and {_MOST_SEED}, not {self.seed}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise InputError(f"precision must be auto, fp32 or bf16, not {self.precision!r}")
        if not 0 <= self.hold_out_percent < 100:
            raise InputError(
                "hold_out_percent must be at least 0 and below 100, so that something is left to "
                f"train on, not {self.hold_out_percent}"
            )
        for name in ("reworded_passes", "quiet_weight", "kl_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("varied_share", "upper_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")

    @property
    def varied_passes(self) -> int:
        """How often each fact is read in a changed wording."""
        return round(self.fact_passes * self.varied_share)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    def record(self) -> dict[str, Any]:
        """Return the fields and the recipe that they are meant for, as a run keeps them."""
        told = self.to_dict()
        as_before = [name for name in _TOLD_IF_OTHER if told[name] == _BEFORE[name]]
        kept = {name: value for name, value in told.items() if name not in as_before}
        return {"recipe": RECIPE, **kept}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> TrainingSettings:
        """Return the settings that a run was recorded with.

        A field that was not there yet is what runs did then; where that is not known, nothing is
        filled in: today's default would train other weights than the run did.

        Raises:
            StateError: when they are of another recipe, or their fields are not those of today.
        """
        told, shape = {**_BEFORE, **record}, dict(record.get("shape", {}))
        recipe = told.pop("recipe", _UNNUMBERED)
        if recipe != RECIPE:
            raise StateError(f"recipe {recipe}, not {RECIPE}")
        for kind, found in ((cls, told), (PoolShape, shape)):
            known = {setting.name for setting in fields(kind)}
            if differing := sorted(known ^ set(found)):
                raise StateError(f"missing or unknown: {', '.join(differing)}")
        return cls(**{**told, "shape": PoolShape(**shape)})


def recorded_hold_out(record: Mapping[str, Any]) -> float:
    """Return how many of a hundred documents a recorded run held out, whatever else it says."""
    return float(record.get("hold_out_percent", _BEFORE["hold_out_percent"]))
