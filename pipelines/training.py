"""The Lightning module that trains one new segment, and the run around it.

Only the new segment is in the optimiser. The base and the domain's older segments take part in the
forward and are checked, by their bytes, to be the same afterwards.

Shape suffixes: B rows, T tokens, X positions in all rows, D width, V vocabulary.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from peer_cl.errors import InputError
from peer_cl.layer import PeerLayer
from peer_cl.pool import Segment
from pipelines.batches import (
    Batch,
    Row,
    group_by_length,
    next_weights,
    pad,
    target_weights,
    weighted_loss,
)
from pipelines.callbacks import (
    FiniteCheck,
    FrozenCheck,
    LossRecord,
    ProgressReport,
    StepCheckpoint,
    ValidationStop,
    resume_step,
)
from pipelines.features import Features
from pipelines.ordinary import OrdinaryText, answer_to_ordinary, apart_from_base
from pipelines.packages import report_to_stderr
from pipelines.precision import cast_once, plain_attention, resolve_precision
from pipelines.quiet import errors_alone
from pipelines.schedule import rate_factor
from pipelines.settings import TrainingSettings
from pipelines.training_rows import planned_steps

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
        ordinary: ordinary text, to which the segment learns to say nothing; None: it does not.
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
        ordinary: OrdinaryText | None = None,
        start_step: int = 0,
        optimiser_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.segment = segment.requires_grad_(True)
        # Plain attributes, not submodules: Lightning must neither move nor save the base.
        self.__dict__["attachment"] = attachment
        self.__dict__["older"] = list(older)
        self.features, self.settings, self.ordinary = features, settings, ordinary
        self.total_steps, self.start_step = total_steps, start_step
        self.optimiser_state = optimiser_state

    def loss(self, batch: Batch, features: Features | None) -> Tensor:
        """Return the weighted loss of a batch over the number of tokens read, nats."""
        read = batch.ids_BT, batch.mask_BT
        tap_BTD = self._batch_tap(batch, features)
        pool = [*self.older, self.segment]
        return weighted_loss(self._branch(pool, tap_BTD, *read, next_weights(batch) > 0), batch)

    def _batch_tap(self, batch: Batch, features: Features | None) -> Tensor:
        """Return states at the tap: those that are kept, or else the trunk is run for them."""
        kept = features.tap_states(batch.rows, batch.ids_BT.shape[1]) if features else None
        return self._tap(batch.ids_BT, batch.mask_BT) if kept is None else kept

    @torch.no_grad()
    def _tap(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return states at the tap, the trunk run for them."""
        return run_trunk(self.attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)

    def _branch(
        self,
        segments: Sequence[Segment],
        tap_BTD: Tensor,
        ids_BT: Tensor,
        mask_BT: Tensor,
        counted_BT: Tensor,
    ) -> Tensor:
        """Return logits (X, V) at the positions that count."""
        return run_branch(
            self.attachment,
            segments,
            tap_BTD,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
            head_reads_BT=counted_BT,
        )[0]

    def loss_and_divergence(self, batch: Batch, beginning: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and how far the pool is from the base in ordinary text, nats.

        Both from one pass of the pool. How far: mean over predictions, the first left out.

        Args:
            batch: the step.
            beginning: how an ordinary text begins.
        """
        length = batch.ids_BT.shape[1]
        # Cut to the batch's length: a longer row would pad all the others.
        own_1L = torch.tensor([list(beginning[:length])], device=batch.ids_BT.device)
        counted_1L = torch.ones_like(own_1L)
        num_own = own_1L.shape[1]
        own_1T, counted_1T = (
            functional.pad(one, (0, length - num_own)) for one in (own_1L, counted_1L)
        )
        ids_BT = torch.cat([batch.ids_BT, own_1T])
        mask_BT = torch.cat([batch.mask_BT, counted_1T])
        counted_BT = torch.cat([next_weights(batch) > 0, counted_1T.bool()])
        own_tap_1TD = self._tap(ids_BT[-1:], mask_BT[-1:])
        tap_BTD = torch.cat([self._batch_tap(batch, self.features), own_tap_1TD])
        logits_XV = self._branch([*self.older, self.segment], tap_BTD, ids_BT, mask_BT, counted_BT)
        with torch.no_grad():
            base_LV = self._branch([], own_tap_1TD, ids_BT[-1:], mask_BT[-1:], counted_BT[-1:])
        apart = apart_from_base(base_LV, logits_XV[-num_own:])
        return weighted_loss(logits_XV[:-num_own], batch), apart

    def training_step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Return a step's loss in nats, and what is minimised: with the answer to ordinary text."""
        settings, step, ordinary = self.settings, self.start_step + number, self.ordinary
        beginning = None
        if ordinary is not None and settings.kl_weight:
            beginning = ordinary.beginning(settings.seed, step)
        if beginning is None:
            nats = total = self.loss(batch, self.features)
        else:
            nats, apart = self.loss_and_divergence(batch, beginning)
            total = nats + settings.kl_weight * apart
        if ordinary is not None and settings.quiet_weight:
            loud = answer_to_ordinary(
                self.segment, ordinary, settings.quiet_tokens, settings.seed, step
            )
            total = total + settings.quiet_weight * loud
        return {"loss": total, "nats": nats.detach()}

    def configure_optimizers(self) -> Any:
        """Return AdamW without decay, rows faster than keys, warmed up and then falling to 0.

        Fused: one pass over memory instead of seven, a tenth of a short step.
        """
        settings = self.settings
        rows = [p for layer in self.segment.peer_layers() for p in layer.row_parameters()]
        keys = [p for layer in self.segment.peer_layers() for p in layer.key_parameters()]
        optimiser = torch.optim.AdamW(
            [
                {"params": rows, "lr": settings.row_learning_rate},
                {"params": keys, "lr": settings.key_learning_rate},
            ],
            weight_decay=0.0,
            fused=True,
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
        return rate_factor(self.start_step + step, self.total_steps, self.settings.warmup_steps)


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
    ordinary: OrdinaryText | None = None,
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
        ordinary: ordinary text; None: nothing is learned about it.
        checkpoint: a file that is written now and then; if it is there, the run goes on from it
            and ends with the same bits as one that was never killed.
        progress: told (step, steps in all, loss in nats a token).

    Raises:
        InputError: when documents are read so seldom that there is no step.
        DamageError: when the loss or a weight is not finite, or frozen bytes changed.
        KeyboardInterrupt: on Ctrl-C; the same run goes on from its last checkpoint.
    """
    steps = planned_steps(rows, settings)
    if not steps:
        raise InputError(
            f"text_passes {settings.text_passes} and fact_passes {settings.fact_passes} read none "
            f"of {len(rows)} rows: read them more often"
        )
    start, optimiser_state, past = resume_step(checkpoint, segment)
    if start:
        report_to_stderr(f"going on from step {start:,} of {len(steps):,}")
    module = SegmentTrainer(
        attachment=attachment,
        segment=segment,
        older=older,
        features=features,
        settings=settings,
        ordinary=ordinary,
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
    is_over = start >= len(steps)
    if validation and settings.validations:
        groups = group_by_length([len(row.ids) for row in validation], settings.tokens_per_step)
        unseen = _Steps(validation, groups, end_id)
        batches = [unseen[number] for number in range(len(unseen))]
        every = max(1, len(steps) // settings.validations)
        watch = ValidationStop(batches, every, settings.patience, record, start)
        callbacks.append(watch)
        is_over = is_over or watch.is_worse()
    if checkpoint is not None:
        callbacks.append(StepCheckpoint(checkpoint, record, start))
    if not is_over:
        loader = _loader(_Steps(rows, steps[start:], end_id, settings.answer_weight))
        precision, base = resolve_precision(settings.precision), attachment.model
        with attachment.frozen(), cast_once(base, precision), plain_attention(base):
            _fit(module, loader, callbacks)
    segment.requires_grad_(False)
    # After the last checkpoint: a run that goes on from one does it once, too.
    for layer in upper_third(list(segment.peer_layers())):
        layer.experts.up_ND.mul_(settings.upper_share)
    losses = record.losses()
    num_steps = losses[-1][0]
    num_tokens = sum(len(rows[number].ids) - 1 for step in steps[:num_steps] for number in step)
    return TrainedSegment(segment, losses, num_steps, num_tokens)


def upper_third(layers: Sequence[PeerLayer]) -> Sequence[PeerLayer]:
    """Return the upper third of host layers, rounded down.

    What they write comes out nearly as it stands: they learn the training texts' own words, and
    say them in other texts too.
    """
    return layers[len(layers) - len(layers) // 3 :]


def _loader(dataset: _Steps) -> DataLoader[Batch]:
    return DataLoader(dataset, batch_size=1, shuffle=False, collate_fn=_only)


def _fit(
    module: SegmentTrainer, loader: DataLoader[Batch], callbacks: Sequence[lightning.Callback]
) -> None:
    quiet = errors_alone("lightning.pytorch", "lightning.fabric")
    with warnings.catch_warnings(), quiet, _interruptible():
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
            callbacks=list(callbacks),
        )
        trainer.fit(module, loader)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt again: Lightning ignores it from then on, and exits."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if in_main and handler is not None:
            signal.signal(signal.SIGINT, handler)
