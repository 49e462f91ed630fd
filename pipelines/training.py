"""The Lightning module that trains one new segment, and the run around it.

Only the new segment is in the optimiser. The base and the domain's older segments take part in the
forward and are checked, by their bytes, to be the same afterwards.

Shape suffixes: B rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from peer_cl.attach import Attachment
from peer_cl.branches import default_position_ids, run_branch, run_trunk
from peer_cl.pool import Segment
from pipelines.batches import Batch, Row, group_by_length, pad, plan_steps, target_weights
from pipelines.callbacks import (
    FiniteCheck,
    FrozenCheck,
    LossRecord,
    ProgressReport,
    StepCheckpoint,
    ValidationStop,
    resume_step,
)
from pipelines.fact_rows import VARIED
from pipelines.features import Features
from pipelines.precision import cast_once, plain_attention, resolve_precision
from pipelines.settings import TrainingSettings

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class TrainedSegment:
    """A trained segment and how it came about."""

    segment: Segment
    losses: tuple[tuple[int, float, float | None], ...]
    """(step, training loss, validation loss or None), nats a token."""
    num_steps: int
    num_tokens: int
    """Tokens read in training, padding left out."""


class _Steps(Dataset[Batch]):
    """The steps of a run that are still to be done."""

    def __init__(
        self,
        rows: Sequence[Row],
        steps: Sequence[Sequence[int]],
        end_id: int,
        answer_weight: float = 1.0,
    ) -> None:
        self.rows, self.steps, self.end_id = rows, steps, end_id
        self.answer_weight = answer_weight

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> Batch:
        numbers = tuple(self.steps[step])
        rows = [self.rows[number] for number in numbers]
        ids_BT, mask_BT = pad([row.ids for row in rows], self.end_id)
        weights_BT = target_weights(rows, ids_BT.shape[1], self.answer_weight)
        return Batch(ids_BT, mask_BT, weights_BT, numbers)


def _only(batches: list[Batch]) -> Batch:
    return batches[0]


class SegmentTrainer(lightning.LightningModule):
    """Next-token loss of a new segment on a domain's rows.

    Args:
        attachment: the base with its hooks; frozen while this trains.
        segment: what is trained.
        older: the domain's older segments, on and unchanged.
        features: states at the tap; where none are kept, the trunk is run in each step.
        settings: learning rates and schedule.
        total_steps: of the whole run.
        start_step: where it goes on after a kill.
        optimiser_state: of the killed run.
    """

    def __init__(
        self,
        *,
        attachment: Attachment,
        segment: Segment,
        older: Sequence[Segment],
        features: Features,
        settings: TrainingSettings,
        total_steps: int,
        start_step: int = 0,
        optimiser_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.segment = segment.requires_grad_(True)
        # Plain attributes, not submodules: Lightning must neither move nor save the base.
        self.__dict__["attachment"] = attachment
        self.__dict__["older"] = list(older)
        self.features, self.settings = features, settings
        self.total_steps, self.start_step = total_steps, start_step
        self.optimiser_state = optimiser_state

    def loss(self, batch: Batch, features: Features | None) -> Tensor:
        """Return the weighted loss of a batch over the number of tokens read, nats.

        Over all that are read, not over those that count: else a step of varied facts, in which
        answers alone count, would pull as hard as one in which every token teaches.
        """
        ids_BT, mask_BT = batch.ids_BT, batch.mask_BT
        tap_BTD = features.tap_states(batch.rows, ids_BT.shape[1]) if features else None
        if tap_BTD is None:
            with torch.no_grad():
                tap_BTD = run_trunk(
                    self.attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                )
        logits_BTV = run_branch(
            self.attachment,
            [*self.older, self.segment],
            tap_BTD,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
        )
        # The last position predicts nothing: a weight of 0 spares copying all logits but it.
        weights_BT = batch.weights_BT.roll(-1, 1)
        losses_X = functional.cross_entropy(
            logits_BTV.flatten(0, 1).float(), ids_BT.roll(-1, 1).flatten(), reduction="none"
        )
        return (losses_X * weights_BT.flatten()).sum() / mask_BT[:, 1:].sum()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one step."""
        return self.loss(batch, self.features)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log the loss on rows that are not trained on, weighted by their tokens."""
        num_tokens = int(batch.mask_BT[:, 1:].sum())
        self.log("validation_nats", self.loss(batch, None), batch_size=num_tokens)

    def configure_optimizers(self) -> Any:
        """Return AdamW without decay, rows faster than keys, warmed up and then falling to 0."""
        settings = self.settings
        rows = [p for layer in self.segment.peer_layers() for p in layer.row_parameters()]
        keys = [p for layer in self.segment.peer_layers() for p in layer.key_parameters()]
        optimiser = torch.optim.AdamW(
            [
                {"params": rows, "lr": settings.row_learning_rate},
                {"params": keys, "lr": settings.key_learning_rate},
            ],
            weight_decay=0.0,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)
        if self.optimiser_state is not None:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": self.optimiser_state})
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def rate(self, step: int) -> float:
        """Return the factor on the learning rates at a step of this fit."""
        step += self.start_step
        warm = min(self.settings.warmup_steps, max(1, self.total_steps // 5))
        if step < warm:
            return (step + 1) / warm
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - warm))


def train_segment(
    attachment: Attachment,
    segment: Segment,
    *,
    older: Sequence[Segment],
    rows: Sequence[Row],
    validation: Sequence[Row],
    features: Features,
    settings: TrainingSettings,
    end_id: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> TrainedSegment:
    """Train a segment on rows and return it, frozen.

    Args:
        attachment: the base with its hooks.
        segment: new, or as it was initialised before a kill.
        older: the domain's older segments.
        rows: trained on.
        validation: scored during the run for early stopping; may be empty.
        features: states at the tap of the first of `rows`; the trunk is run for the others.
        settings: how.
        end_id: pads rows; padding is masked.
        checkpoint: a file that is written now and then; if it is there, the run goes on from it
            and ends with the same bits as one that was never killed.
        progress: told (step, steps in all, loss in nats a token).

    Raises:
        DamageError: when the loss or a weight is not finite, or frozen bytes changed.
    """
    passes = {
        "text": settings.text_passes,
        "fact": settings.fact_passes - settings.varied_passes,
        VARIED: 1.0,
    }
    steps = plan_steps(rows, passes, settings.tokens_per_step, settings.seed)
    start, optimiser_state, past = resume_step(checkpoint, segment)
    module = SegmentTrainer(
        attachment=attachment,
        segment=segment,
        older=older,
        features=features,
        settings=settings,
        total_steps=len(steps),
        start_step=start,
        optimiser_state=optimiser_state,
    )
    record = LossRecord(past, start)
    callbacks: list[lightning.Callback] = [
        FrozenCheck(attachment.model, older),
        FiniteCheck(segment),
        record,
        ProgressReport(progress, start, len(steps)),
    ]
    if checkpoint is not None:
        callbacks.append(StepCheckpoint(checkpoint, record, start))
    if validation and settings.validations:
        callbacks.append(ValidationStop(settings.patience))
    loaders = [_loader(_Steps(rows, steps[start:], end_id, settings.answer_weight))]
    if validation and settings.validations:
        groups = group_by_length([len(row.ids) for row in validation], settings.tokens_per_step)
        loaders.append(_loader(_Steps(validation, groups, end_id)))
    if start < len(steps):
        precision = resolve_precision(settings.precision)
        base = attachment.model
        with attachment.frozen(), cast_once(base, precision), plain_attention(base):
            _fit(module, loaders, callbacks, max(1, len(steps) // max(1, settings.validations)))
    segment.requires_grad_(False)
    num_tokens = sum(len(rows[number].ids) - 1 for step in steps for number in step)
    return TrainedSegment(segment, record.losses(), len(steps), num_tokens)


def _loader(dataset: _Steps) -> DataLoader[Batch]:
    return DataLoader(dataset, batch_size=1, shuffle=False, collate_fn=_only)


def _fit(
    module: SegmentTrainer,
    loaders: Sequence[DataLoader[Batch]],
    callbacks: Sequence[lightning.Callback],
    validate_every: int,
) -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="gpu" if module.segment.on_gpu() else "cpu",
            devices=1,
            precision=PRECISIONS[resolve_precision(module.settings.precision)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            val_check_interval=min(validate_every, len(loaders[0])) if len(loaders) > 1 else None,
            limit_val_batches=None if len(loaders) > 1 else 0,
            callbacks=list(callbacks),
        )
        trainer.fit(module, *loaders)
