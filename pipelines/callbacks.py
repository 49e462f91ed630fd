"""What watches a training run: frozen bytes, finite numbers, early stopping, progress, resuming."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from peer_cl.durable import replace_file
from peer_cl.errors import DamageError
from peer_cl.pool import Segment, tensors_sha256
from pipelines.packages import report_to_stderr

CHECKPOINT_EVERY = 50
"""Steps between two checkpoints of a run."""

Loss = tuple[int, float, float | None]


class FrozenCheck(lightning.Callback):
    """Refuses a run that changed the base or an older segment: hashes before and after."""

    def __init__(self, base: nn.Module, older: Sequence[Segment]) -> None:
        self._watched: dict[str, nn.Module] = {"the base": base}
        self._watched |= {f"older segment {number}": s for number, s in enumerate(older, 1)}
        self._before: dict[str, str] = {}

    def on_fit_start(self, *_: Any) -> None:
        """Hash what must not change."""
        self._before = {n: tensors_sha256(m.state_dict()) for n, m in self._watched.items()}

    def on_fit_end(self, *_: Any) -> None:
        """Hash it again.

        Raises:
            DamageError: naming what changed.
        """
        for name, module in self._watched.items():
            after = tensors_sha256(module.state_dict())
            if after != self._before[name]:
                raise DamageError(
                    f"training changed {name}: {self._before[name][:16]}... became "
                    f"{after[:16]}...; nothing was registered"
                )


class FiniteCheck(lightning.Callback):
    """Stops a run whose loss or weights are not finite; Lightning itself would run on."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def on_train_batch_end(self, trainer: Any, _: Any, outputs: Any, *__: Any) -> None:
        """Look at the loss of the step.

        Raises:
            DamageError: naming the step.
        """
        loss = outputs["loss"]
        if not torch.isfinite(loss):
            raise DamageError(
                f"the loss became {loss.item()} at step {trainer.global_step}; nothing was "
                "registered. Lower the learning rates"
            )

    def on_fit_end(self, *_: Any) -> None:
        """Look at the weights.

        Raises:
            DamageError: naming the tensor.
        """
        check_finite(self._segment)


def check_finite(segment: Segment) -> None:
    """Raise a DamageError where a segment's weights are not finite; it names the tensor."""
    for name, tensor in segment.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise DamageError(f"{name} holds values that are not finite; nothing was registered")


class LossRecord(lightning.Callback):
    """Keeps the run's losses: (step, training, validation or None), nats a token."""

    def __init__(self, past: Sequence[Loss], start: int) -> None:
        self._losses: dict[int, tuple[float, float | None]] = {
            step: (train, validation) for step, train, validation in past
        }
        self._start = start

    def on_train_batch_end(self, trainer: Any, _: Any, outputs: Any, *__: Any) -> None:
        """Note the loss of the step."""
        self._losses[self._start + trainer.global_step] = (float(outputs["nats"]), None)

    def add_validation(self, step: int, nats: float) -> None:
        """Note the validation loss beside a step's."""
        self._losses[step] = (self._losses[step][0], nats)

    def losses(self) -> tuple[Loss, ...]:
        """Return all losses so far, by step."""
        return tuple((step, *self._losses[step]) for step in sorted(self._losses))


class ProgressReport(lightning.Callback):
    """Tells a function how far the run is."""

    def __init__(self, report: Callable[[int, int, float], None], start: int, total: int) -> None:
        self._report, self._start, self._total = report, start, total

    def on_train_batch_end(self, trainer: Any, _: Any, outputs: Any, *__: Any) -> None:
        """Report the step, the number of steps and the loss."""
        self._report(self._start + trainer.global_step, self._total, float(outputs["nats"]))


class ValidationStop(lightning.Callback):
    """Scores rows that are not trained on, and stops a run that only gets worse on them.

    Not Lightning's validation loop: that one counts from where a fit begins, so a run that goes on
    after a kill would be validated, and stopped, at other steps than one that was never killed.

    Args:
        batches: the validation rows.
        every: steps between two validations, counted from the run's first step.
        patience: how many validations in a row may be worse than the best one before it stops.
        record: holds the past validations, and gets the new ones.
        start: the step that this fit goes on from.
    """

    def __init__(
        self, batches: Sequence[Any], every: int, patience: int, record: LossRecord, start: int
    ) -> None:
        self._batches, self._every, self._patience = batches, every, patience
        self._record, self._start = record, start

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Validate after every so many steps.

        Raises:
            DamageError: when the validation loss is not finite.
        """
        step = self._start + trainer.global_step
        if step % self._every:
            return
        nats = num_tokens = 0.0
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            for batch in self._batches:
                moved = trainer.strategy.batch_to_device(batch)
                found = int(moved.mask_BT[:, 1:].sum())
                nats += float(module.loss(moved, None)) * found
                num_tokens += found
        if not math.isfinite(nats):
            raise DamageError(
                f"the validation loss became {nats} at step {step}; nothing was registered. Lower "
                "the learning rates"
            )
        self._record.add_validation(step, nats / num_tokens)
        trainer.should_stop = trainer.should_stop or self.is_worse()

    def is_worse(self) -> bool:
        """Return whether the last validations, as many as patience says, are worse than the best.

        Read off the record, so that a run that goes on after a kill decides as one that was not.
        """
        values = [value for _, _, value in self._record.losses() if value is not None]
        if not values:
            return False
        return len(values) - 1 - values.index(min(values)) >= self._patience


class StepCheckpoint(lightning.Callback):
    """Writes weights, optimiser state and losses as one safetensors file, now and then.

    Not Lightning's checkpoint: that one is a pickle, is not fsynced, and cannot go on exactly in
    the middle of an epoch.
    """

    def __init__(self, path: Path, record: LossRecord, start: int) -> None:
        self._path, self._record, self._start = path, record, start

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Write the file after every so many steps; the old one stays until the new is whole.

        Raises:
            DamageError: where weights are not finite: a run goes on from them, and takes those of
                the last step as they are.
        """
        step = self._start + trainer.global_step
        if step % CHECKPOINT_EVERY:
            return
        check_finite(module.segment)
        tensors = {f"segment.{k}": v for k, v in module.segment.state_dict().items()}
        for number, state in trainer.optimizers[0].state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in state.items()}
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        run = json.dumps({"step": step, "losses": self._record.losses()})
        data = save(tensors, metadata={"run": run, "sha256": _checkpoint_sha256(run, tensors)})
        replace_file(self._path, data)


def resume_step(
    path: Path | None, segment: Segment
) -> tuple[int, dict[Any, Any] | None, tuple[Loss, ...]]:
    """Load a killed run's checkpoint into the segment, if there is one.

    One that is damaged is worth less than the time of its run: it is told, and the run begins anew.

    Returns:
        the step to go on from (0: from the start), the optimiser's state, the losses so far.
    """
    if path is None or not path.is_file():
        return 0, None, ()
    try:
        about, tensors = _read_checkpoint(path)
    except DamageError as error:
        report_to_stderr(str(error))
        return 0, None, ()
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("segment."):
            weights[key.removeprefix("segment.")] = tensor
        else:
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = tensor
    segment.load_state_dict(weights, strict=True)
    losses = tuple((int(s), float(t), v) for s, t, v in about["losses"])
    return int(about["step"]), state, losses


def _checkpoint_sha256(run: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{run}|{tensors_sha256(tensors)}".encode()).hexdigest()


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a checkpoint's record and tensors.

    Raises: DamageError: when the file is not what `StepCheckpoint` wrote.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamageError(
            f"the checkpoint {path} cannot be read ({error}); the run begins anew"
        ) from error
    run, expected = metadata.get("run", ""), metadata.get("sha256", "none")
    found = _checkpoint_sha256(run, tensors)
    if found != expected:
        raise DamageError(
            f"the checkpoint {path} has sha256 {found[:16]}..., expected {expected[:16]}...; the "
            "run begins anew"
        )
    about: dict[str, Any] = json.loads(run)
    return about, tensors
