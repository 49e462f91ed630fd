"""The loop that trains every method but ours on a domain: same rows, same steps, same schedule.

Ours is trained by `peer-cl ingest` itself; its schedule and loss are these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.stream.data import Prepared
from peer_cl.errors import DamageError
from pipelines.batches import next_weights, weighted_loss
from pipelines.ordinary import OrdinaryText, apart_from_base
from pipelines.precision import resolve_precision
from pipelines.progress import LossNote, Progress
from pipelines.reading import Reader
from pipelines.schedule import rate_factor
from pipelines.settings import TrainingSettings


@dataclass(frozen=True)
class Spared:
    """Ordinary text that a method is to leave as it was, just as our pools are told to.

    Args:
        text: how ordinary texts begin.
        base: the bare model, as it reads with what is trained switched off.
    """

    text: OrdinaryText
    base: Reader

    def apart(self, reader: Reader, seed: int, step: int, longest: int) -> Tensor:
        """Return how far a model is from the base in a step's beginning, nats, mean over tokens.

        Args:
            reader: the model, with gradients.
            seed: of the run; with the step it says which beginning is read.
            step: of the run.
            longest: the beginning is cut to so many tokens, as a pool's is.
        """
        beginning = self.text.beginning(seed, step)
        if beginning is None:
            raise DamageError("the store without a domain keeps no beginnings: remove it")
        ids_1L = torch.tensor([beginning[:longest]])
        with torch.no_grad():
            base_LV = self.base(ids_1L, torch.ones_like(ids_1L))[0]
        return apart_from_base(base_LV, reader(ids_1L, torch.ones_like(ids_1L))[0])


def train(
    reader: Reader,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    data: Prepared,
    *,
    learning_rate: float,
    settings: TrainingSettings,
    progress: Progress,
    spared: Spared | None = None,
) -> None:
    """Train parameters on a domain's steps: AdamW without decay, warmed up, then falling to 0.

    Args:
        reader: the model, with gradients.
        parameters: what is trained, or groups of it as torch's optimisers take them.
        data: the domain.
        learning_rate: the highest; groups may name their own.
        settings: warm-up, weights of answers, precision.
        progress: told (what, step, steps, loss).
        spared: ordinary text that is read besides, with the settings' `kl_weight`.

    Raises:
        DamageError: when the loss is not finite.
    """
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, len(data.steps), settings.warmup_steps)
    )
    is_half = resolve_precision(settings.precision) == "bf16"
    for number, step in enumerate(data.steps):
        batch = data.batch(step, settings, pad_id=0)
        with torch.autocast("cpu", dtype=torch.bfloat16) if is_half else nullcontext():
            logits_BTV = reader(batch.ids_BT, batch.mask_BT)
            loss = weighted_loss(logits_BTV[next_weights(batch) > 0], batch)
            value = _finite(loss, number)
            if spared is not None:
                apart = spared.apart(reader, settings.seed, number, batch.ids_BT.shape[1])
                loss = loss + settings.kl_weight * apart
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress("training", number + 1, len(data.steps), LossNote(value))


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DamageError(f"the loss is {value} at step {step}: try a lower learning rate")
    return value
