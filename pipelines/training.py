"""Training one new segment with Lightning: the module, its callbacks and the run.

Only the new segment is in the optimiser. The base and the domain's older segments take part in the
forward, and their bytes are compared before and after.

Shape suffixes: B rows, T tokens, X positions in all rows, L tokens of a background text's
beginning, D width, V vocabulary.
"""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn import functional

from peer_cl.bases import tensors_sha256
from peer_cl.errors import DamageError, InputError
from peer_cl.hooks import Hooks
from peer_cl.pool import Segment
from peer_cl.sparse import DENSE_LIMIT, PoolOptimiser
from pipelines.batches import (
    Batch,
    Row,
    group_by_length,
    mean_loss,
    pad,
    plan_steps,
    predicts,
)
from pipelines.progress import LossNote, Progress, no_progress
from pipelines.settings import TrainingSettings, fast_training, resolve_precision

STEPS_BETWEEN_CHECKPOINTS = 50
NUM_EARLY = 12
"""Nearly all that a pool spoils of background text it spoils in the first dozen tokens, so these
count half of the output term. The start token is left out: it begins the domain's texts too."""

ADAGRAD_RATE = 3
"""Times Adam's: the rate of experts whose gradients are sparse."""
STEPS_A_READING = 8
"""The base reads the background texts of so many steps at once: one of 49 tokens alone takes it 1.6
times as long (SmolLM2, bf16), a twentieth of a step."""
MAX_PADDED = 2
"""A background text is padded to the batch's rows where these are at most so many times as long:
beside a row of 150 tokens two passes take a sixth less time than a padded one, beside 80 more."""

Loss = tuple[int, float, float | None]
"""Step, training loss, validation loss where it was measured; nats a token."""


@dataclass(frozen=True)
class TrainingRun:
    """What a run came to."""

    losses: tuple[Loss, ...]
    num_steps: int
    num_tokens: int
    """Tokens read in training, without padding."""


def train_segment(
    hooks: Hooks,
    segment: Segment,
    *,
    older: Sequence[Segment],
    rows: Sequence[Row],
    validation: Sequence[Row],
    beginnings: Sequence[Sequence[int]],
    end_id: int | None,
    settings: TrainingSettings,
    checkpoint: Path,
    progress: Progress = no_progress,
) -> TrainingRun:
    """Train a segment in place, where it lies: beside the base.

    Args:
        older: the domain's older segments, active and unchanged.
        validation: scored during the run, to stop early; may be empty.
        beginnings: how background texts begin, as token ids with the start token.
        end_id: pads rows, masked.
        checkpoint: a file that is written now and then. Where it exists, the run continues from it
            and ends with the same bits as one that was never stopped.

    Raises:
        InputError: when the settings make no step.
        DamageError: when a loss or weight is not finite, or frozen bytes changed.
        KeyboardInterrupt: on Ctrl-C.
    """
    steps = plan_steps(
        rows, settings.text_passes, settings.tokens_per_step, settings.seed, settings.min_steps
    )
    if not steps:
        raise InputError(
            f"text_passes {settings.text_passes} read none of {len(rows)} rows: raise it"
        )
    module = SegmentModule(hooks, segment, older, beginnings, settings, total_steps=len(steps))
    loader = PlannedSteps(rows, steps, end_id or 0, hooks.device)
    groups = group_by_length([len(row.ids) for row in validation], settings.tokens_per_step)
    held = PlannedSteps(validation, groups, end_id or 0, hooks.device)
    with hooks.frozen():
        _fit(module, loader, held, checkpoint, progress)
    check_finite(segment)
    segment.requires_grad_(False).to(hooks.device)  # Lightning takes it from there
    # What the upper third of host layers writes comes out nearly as it stands: they learn the
    # training texts' own words, and say them in other texts too.
    layers = segment.peer_layers()
    with torch.no_grad():
        for layer in layers[len(layers) - len(layers) // 3 :]:
            layer.experts.up_ND.mul_(settings.upper_scale)
    done = steps[: len(module.losses)]
    return TrainingRun(
        losses=tuple(module.losses),
        num_steps=len(done),
        num_tokens=sum(len(rows[number].ids) - 1 for step in done for number in step),
    )


class PlannedSteps:
    """The batches of a run in their order.

    A loader with a state, so that Lightning continues within the epoch.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        steps: Sequence[Sequence[int]],
        end_id: int,
        device: torch.device | None = None,
    ) -> None:
        self._rows, self._steps, self._end_id, self._device = rows, steps, end_id, device
        self._begin = self._num_read = 0

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Batch]:
        begin, self._begin = self._begin, 0
        for step in range(begin, len(self._steps)):
            self._num_read = step + 1
            numbers = tuple(self._steps[step])
            rows = [self._rows[number] for number in numbers]
            ids_BT, mask_BT = pad([row.ids for row in rows], self._end_id, device=self._device)
            yield Batch(ids_BT, mask_BT, numbers)

    def state_dict(self) -> dict[str, int]:
        """Return how many batches were read."""
        return {"num_read": self._num_read}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration continue behind the batches that were read."""
        self._begin = self._num_read = state["num_read"]


@dataclass(frozen=True)
class BackgroundReading:
    """What the base makes of background text, for one step."""

    ids_L: Tensor
    """How one text begins, the start token first."""
    logits_LV: Tensor
    """The base's, on that text."""
    inputs: Mapping[int, Tensor]
    """By host layer, what its feed-forward reads at some tokens of all texts read together, (X, D):
    tokens of one text alone would be too much alike."""
    is_early_X: Tensor
    """Which of these tokens are among the first of their text."""


class BackgroundReader:
    """What the base makes of the background text of each step.

    Which text a step gets depends on the seed and the step alone, and so do the steps that are read
    together: a run that continues has the bits of one that was never stopped.
    """

    def __init__(
        self,
        hooks: Hooks,
        host_layers: Sequence[int],
        beginnings: Sequence[Sequence[int]],
        seed: int,
    ) -> None:
        self._hooks, self._host_layers = hooks, host_layers
        self._beginnings, self._seed = beginnings, seed
        self._first_step, self._readings = -1, list[BackgroundReading]()

    def at(self, step: int) -> BackgroundReading:
        """Return the reading of a step."""
        place = step % STEPS_A_READING
        if self._first_step != step - place:
            self._first_step = step - place
            self._readings = self._read(range(step - place, step - place + STEPS_A_READING))
        return self._readings[place]

    @torch.no_grad()
    def _read(self, steps: Sequence[int]) -> list[BackgroundReading]:
        numbers = [_drawn(len(self._beginnings), self._seed, step) for step in steps]
        device = self._hooks.device
        own = [self._beginnings[number] for number in numbers]
        ids_BT, mask_BT = pad(own, pad_id=0, device=device)
        with self._hooks.bare(keep_inputs=self._host_layers) as seen:
            logits_BTV = self._hooks.base(
                input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
            ).logits
        places_BT = torch.arange(ids_BT.shape[1], device=device).expand_as(ids_BT)
        # Each token but the start tokens goes to one of the steps, whose tokens are of all texts.
        steps_BT = (places_BT + torch.arange(len(steps), device=device)[:, None]) % len(steps)
        steps_BT = steps_BT.masked_fill((places_BT == 0) | (mask_BT == 0), -1)
        return [
            BackgroundReading(
                ids_BT[row, : mask_BT[row].sum()],
                logits_BTV[row, : mask_BT[row].sum()],
                {n: seen.feed_forward_inputs[n][steps_BT == row] for n in self._host_layers},
                places_BT[steps_BT == row] <= NUM_EARLY,
            )
            for row in range(len(steps))
        ]


def _drawn(below: int, seed: int, step: int) -> int:
    """Return a number below a limit that depends on seed and step alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return int(torch.randint(below, (1,), generator=generator))


class SegmentModule(lightning.LightningModule):
    """Next-token loss of a new segment on a domain's rows, and two terms on background text.

    The base is no submodule: Lightning neither moves nor saves it.
    """

    def __init__(
        self,
        hooks: Hooks,
        segment: Segment,
        older: Sequence[Segment],
        beginnings: Sequence[Sequence[int]],
        settings: TrainingSettings,
        *,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.segment = segment.requires_grad_(True)
        self.hooks, self.older = hooks, list(older)
        self.background = BackgroundReader(hooks, segment.host_layers, beginnings, settings.seed)
        self.settings, self.total_steps = settings, total_steps
        self.losses: list[Loss] = []

    def logits(self, ids_BT: Tensor, mask_BT: Tensor, counted_BT: Tensor) -> Tensor:
        """Return the pool's logits (X, V) at the positions that count."""
        with self.hooks.branch([*self.older, self.segment]), self.hooks.head_at(counted_BT):
            output = self.hooks.base(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        logits_XV: Tensor = output.logits[0]
        return logits_XV

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, nats a token."""
        return mean_loss(self.logits(batch.ids_BT, batch.mask_BT, predicts(batch.mask_BT)), batch)

    def losses_beside(
        self, batch: Batch, background: BackgroundReading
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch's loss, the KL divergence on a background text, and the output there.

        The pool reads both in one pass, the background text cut to the batch's length, or padded to
        it; beside rows so long that padding would cost more, in two.
        """
        counted_BT = predicts(batch.mask_BT)
        length = batch.ids_BT.shape[1]
        own_1L = background.ids_L[None, :length]
        num_own = own_1L.shape[1]
        if length > MAX_PADDED * num_own:
            logits_XV = self.logits(batch.ids_BT, batch.mask_BT, counted_BT)
            ones_1L = torch.ones_like(own_1L)
            own_LV = self.logits(own_1L, ones_1L, ones_1L.bool())
        else:
            own_1T, counted_1T = (
                functional.pad(one, (0, length - num_own))
                for one in (own_1L, torch.ones_like(own_1L))
            )
            both_XV = self.logits(
                torch.cat([batch.ids_BT, own_1T]),
                torch.cat([batch.mask_BT, counted_1T]),
                torch.cat([counted_BT, counted_1T.bool()]),
            )
            logits_XV, own_LV = both_XV[:-num_own], both_XV[-num_own:]
        nats = mean_loss(logits_XV, batch)
        divergence = mean_divergence(background.logits_LV[:num_own], own_LV)
        output = squared_output(self.segment, background.inputs, background.is_early_X)
        return nats, divergence, output

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return what is minimised; DamageError where it is not finite."""
        settings, step = self.settings, self.global_step
        if settings.background_kl_weight or settings.background_output_weight:
            nats, divergence, output = self.losses_beside(batch, self.background.at(step))
            total = nats + settings.background_kl_weight * divergence
            total = total + settings.background_output_weight * output
        else:
            nats = total = self.loss(batch)
        if not torch.isfinite(total):
            raise DamageError(
                f"the loss became {total.item()} at step {step + 1}; nothing was registered. Lower "
                "the learning rates"
            )
        self.losses.append((step + 1, float(nats.detach()), None))
        return total

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log the loss on held-out rows."""
        num_tokens = int(batch.mask_BT[:, 1:].sum())
        self.log("validation_nats", self.loss(batch), batch_size=num_tokens)

    def on_validation_end(self) -> None:
        """Record the validation loss beside the step's training loss."""
        step, nats, _ = self.losses[-1]
        self.losses[-1] = (step, nats, float(self.trainer.callback_metrics["validation_nats"]))

    def configure_optimizers(self) -> Any:
        """Return Adam without decay; experts learn faster than keys.

        Fused: one pass over memory instead of seven, a tenth of a short step. Of large pools only
        the chosen experts move.
        """
        settings, layers = self.settings, list(self.segment.peer_layers())
        experts = [p for layer in layers for p in layer.expert_parameters()]
        keys = [p for layer in layers for p in layer.key_parameters()]
        is_large = settings.shape.num_experts > DENSE_LIMIT
        rate = settings.expert_learning_rate * (ADAGRAD_RATE if is_large else 1)
        groups = [
            {"params": experts, "lr": rate},
            {"params": keys, "lr": settings.key_learning_rate},
        ]
        optimiser: torch.optim.Optimizer
        if is_large:
            optimiser = PoolOptimiser(groups)
        else:
            optimiser = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(step, self.total_steps, settings.warmup_steps)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses so far."""
        checkpoint["losses"] = self.losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the losses so far."""
        self.losses = [(step, nats, held) for step, nats, held in checkpoint["losses"]]


def mean_divergence(base_LV: Tensor, pool_LV: Tensor) -> Tensor:
    """Return the KL divergence from the base's predictions to the pool's, nats, mean over tokens.

    What follows the start token is left out: there the base's expectation is wrong for most texts.
    """
    base_LV, pool_LV = base_LV.float().log_softmax(-1), pool_LV.float().log_softmax(-1)
    divergence_L = (base_LV.exp() * (base_LV - pool_LV)).sum(-1)[1:]
    return divergence_L.sum() / max(1, len(divergence_L))


def squared_output(segment: Segment, inputs: Mapping[int, Tensor], is_early_X: Tensor) -> Tensor:
    """Return the squared length of what a segment adds in background text.

    The mean over early tokens and the mean over later ones count half each; summed over the host
    layers. `inputs` are what the feed-forward reads there, (X, D).
    """
    total = torch.zeros((), device=next(segment.parameters()).device)
    for layer, inputs_XD in inputs.items():
        squared_X = segment.layer(layer)(inputs_XD.float()).square().sum(-1)
        parts = [part for part in (squared_X[is_early_X], squared_X[~is_early_X]) if len(part)]
        total = total + sum(part.mean() for part in parts) / max(1, len(parts))
    return total


def rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the factor on the learning rates at a step: warmed up, then falling to zero.

    A short run warms up for a fifth of it at most.

    Example:
        >>> [round(rate_factor(step, 20, 4), 2) for step in (0, 3, 4, 12, 19)]
        [0.25, 1.0, 1.0, 0.5, 0.06]
    """
    warm = min(warmup_steps, max(1, total_steps // 5))
    if step < warm:
        return (step + 1) / warm
    return max(0.0, (total_steps - step) / max(1, total_steps - warm))


def check_finite(segment: Segment) -> None:
    """Raise a DamageError that names the tensor where a segment's weights are not finite."""
    for name, tensor in segment.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise DamageError(f"{name} holds values that are not finite; nothing was registered")


class FrozenCheck(lightning.Callback):
    """Refuses a run that changed the base or an older segment: hashes before and after."""

    def __init__(self, base: nn.Module, older: Sequence[Segment]) -> None:
        self._watched: dict[str, nn.Module] = {"the base": base}
        self._watched |= {f"older segment {number}": one for number, one in enumerate(older, 1)}
        self._before: dict[str, str] = {}

    def on_fit_start(self, *_: Any) -> None:
        """Hash what must not change."""
        self._before = {name: tensors_sha256(m.state_dict()) for name, m in self._watched.items()}

    def on_fit_end(self, *_: Any) -> None:
        """Hash it again; DamageError names what changed."""
        for name, module in self._watched.items():
            after = tensors_sha256(module.state_dict())
            if after != self._before[name]:
                raise DamageError(
                    f"training changed {name}: {self._before[name][:16]}... became "
                    f"{after[:16]}...; nothing was registered"
                )


class StepProgress(ProgressBar):
    """Passes each step and its loss on to the verb's progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def disable(self) -> None:
        """Do nothing: Lightning disables bars on all processes but the first, and there is one."""

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        """Report the step."""
        super().on_train_batch_end(trainer, module, *args)
        note = LossNote(module.losses[-1][1])
        self._progress("training", trainer.global_step, module.total_steps, note)


def _fit(
    module: SegmentModule,
    loader: PlannedSteps,
    validation: PlannedSteps,
    checkpoint: Path,
    progress: Progress,
) -> None:
    settings, total = module.settings, len(loader)
    precision = resolve_precision(settings.precision, module.hooks.device)
    is_validated = bool(len(validation) and settings.validations)
    every = max(1, total // settings.validations) if is_validated else total
    saving = _checkpoint_interval([*range(every, total, every), total])
    callbacks: list[lightning.Callback] = [
        FrozenCheck(module.hooks.base, module.older),
        StepProgress(progress),
        ModelCheckpoint(
            dirpath=checkpoint.parent,
            filename=checkpoint.stem,
            every_n_train_steps=saving,
            enable_version_counter=False,
        ),
    ]
    if is_validated:
        callbacks.append(
            EarlyStopping(
                "validation_nats",
                patience=settings.patience,
                check_finite=False,  # training itself refuses what is not finite
                check_on_train_epoch_end=False,
            )
        )
    with _quiet_lightning(), _interruptible(), fast_training(module.hooks.base, precision):
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator=module.hooks.device.type,
            strategy=SingleDeviceStrategy(module.hooks.device),
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            val_check_interval=every,
            limit_val_batches=1.0 if is_validated else 0,
            num_sanity_val_steps=0,
            logger=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        trainer.fit(
            module,
            loader,
            validation,
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,  # nothing is unpickled
        )


def _checkpoint_interval(avoided: Sequence[int]) -> int:
    """Return the steps between two checkpoints, none of which falls on a step to be avoided.

    Lightning skips a validation on the very step that it continues from, and begins the epoch anew
    behind its last one.

    Example:
        >>> _checkpoint_interval([40, 80, 120]), _checkpoint_interval([100, 200, 300])
        (50, 49)
    """
    wanted = range(STEPS_BETWEEN_CHECKPOINTS, 1, -1)
    fitting = (every for every in wanted if all(step % every for step in avoided))
    return next(fitting, STEPS_BETWEEN_CHECKPOINTS)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notices inside: they would tear our progress apart."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning exits the process, and ignores further ones."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if in_main and handler is not None:
            signal.signal(signal.SIGINT, handler)
