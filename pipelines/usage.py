"""What every expert of a new segment is used for, recorded after training.

For each (document, host layer): which experts fired, and their router weight summed over the
document's tokens. For each expert: the mean of what it read, weighted likewise, which is its vector
in the index over experts. And what each document costs with the pool active.

Shape suffixes: B rows of a batch, T tokens, D width, H heads, K chosen, C chosen by all heads, N
experts, F experts that fired, X pairs of token and expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.pool import Segment
from pipelines.batches import Row, group_by_length, pad
from pipelines.keys import READ_TOKENS, is_text, text_nats
from pipelines.progress import Progress, no_progress
from pipelines.settings import reading
from stores.records import NewUse


@dataclass(frozen=True)
class RecordedUse:
    """What one pass over the learned documents showed."""

    uses: list[NewUse]
    """One a host layer."""
    inputs: dict[int, Tensor]
    """By host layer, (N, D): the mean of what each expert read; 0 for one that never fired."""
    losses: dict[str, tuple[float, float]]
    """By document id, nats a token: of the base, and with the pool active."""

    def to_bytes(self) -> bytes:
        """Return the mean inputs as safetensors bytes, in half precision where they fit it."""
        tensors = {}
        for layer, inputs_ND in self.inputs.items():
            half_ND = inputs_ND.half()
            tensors[f"layers.{layer}"] = half_ND if half_ND.isfinite().all() else inputs_ND
        return save(tensors)


def read_inputs(data: bytes) -> dict[int, NDArray[np.float32]]:
    """Return each expert's mean input (N, D) by host layer; DamageError for unreadable bytes."""
    try:
        return {
            int(name.removeprefix("layers.")): tensor.float().numpy()
            for name, tensor in load(data).items()
        }
    except (SafetensorError, ValueError) as error:
        raise DamageError(f"an object holds no experts' inputs: {error!r}") from error


def record_use(
    hooks: Hooks,
    segment: Segment,
    *,
    older: Sequence[Segment],
    rows: Sequence[Row],
    positions: Mapping[str, int],
    base_nats: Sequence[float],
    end_id: int | None,
    precision: str,
    progress: Progress = no_progress,
) -> RecordedUse:
    """Read what a segment was trained on once more, and return what its experts are used for.

    Only positions that predict a token of the text count: neither what predicts the end, nor
    padding. `positions` are those of documents within the segment, by id; `base_nats` the base's
    loss on each of `rows`, summed over its tokens.
    """
    recorder = _Recorder(segment)
    sums: dict[str, tuple[float, float, int]] = {}
    done = 0
    with reading(hooks.base, precision):
        for group in group_by_length([len(row.ids) for row in rows], READ_TOKENS):
            ids_BT, mask_BT = pad([rows[number].ids for number in group], pad_id=0)
            text_BT = is_text(ids_BT, mask_BT, end_id)
            documents_B = torch.tensor([positions[rows[number].document_id] for number in group])
            predicts_BT = text_BT.roll(-1, 1)
            recorder.begin(predicts_BT, documents_B)
            with hooks.branch([*older, segment], watch=recorder), hooks.head_at(predicts_BT):
                logits_XV = hooks.base(
                    input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                ).logits[0]
            nats = text_nats(logits_XV, ids_BT, text_BT)
            for number, own, num in zip(group, nats, text_BT.sum(-1).tolist(), strict=True):
                key = rows[number].document_id
                base, before, tokens = sums.get(key, (0.0, 0.0, 0))
                sums[key] = (base + base_nats[number], before + own, tokens + num)
            done += len(group)
            progress("recording use", done, len(rows), "")
    return RecordedUse(
        uses=[layer.use(number) for number, layer in recorder.layers.items()],
        inputs={number: layer.inputs() for number, layer in recorder.layers.items()},
        losses={
            key: (base / max(1, num), own / max(1, num)) for key, (base, own, num) in sums.items()
        },
    )


class _Recorder:
    """Watches a branch, and sums up what one segment's experts are used for."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.layers = {number: _Layer(segment) for number in segment.host_layers}
        self._counted_T = torch.empty(0, dtype=torch.bool)
        self._documents_T = torch.empty(0, dtype=torch.long)

    def begin(self, counted_BT: Tensor, documents_B: Tensor) -> None:
        """Set which tokens of the next batch count, and to which document each row belongs."""
        self._counted_T = counted_BT.flatten()
        self._documents_T = documents_B[:, None].expand_as(counted_BT)[counted_BT]

    def __call__(
        self, active: Segment, number: int, inputs_TD: Tensor, weights_THK: Tensor, ids_THK: Tensor
    ) -> None:
        """Add what the segment reads at a host layer."""
        if active is self.segment:
            counted_T = self._counted_T
            self.layers[number].add(
                inputs_TD[counted_T],
                self._documents_T,
                weights_THK[counted_T].flatten(1),
                ids_THK[counted_T].flatten(1),
            )


class _Layer:
    """Sums of one host layer."""

    def __init__(self, segment: Segment) -> None:
        self.num_experts = segment.shape.num_experts
        self.sums_ND = torch.zeros(self.num_experts, segment.width, dtype=torch.float64)
        self.totals_N = torch.zeros(self.num_experts, dtype=torch.float64)
        self._keys: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float64]] = []

    def add(
        self, inputs_TD: Tensor, documents_T: Tensor, weights_TC: Tensor, ids_TC: Tensor
    ) -> None:
        num_tokens, num_chosen = ids_TC.shape
        weights_X = weights_TC.double().flatten()
        fired_F, places_X = ids_TC.flatten().unique(return_inverse=True)
        tokens_X = torch.arange(num_tokens).repeat_interleave(num_chosen)
        # One product over the experts that fired: adding token by token moves far more memory.
        weights_FT = torch.zeros(len(fired_F), num_tokens)
        weights_FT.index_put_((places_X, tokens_X), weights_X.float(), accumulate=True)
        self.sums_ND.index_add_(0, fired_F, (weights_FT @ inputs_TD).double())
        self.totals_N.index_add_(0, ids_TC.flatten(), weights_X)
        pairs_X = documents_T.repeat_interleave(num_chosen) * self.num_experts + ids_TC.flatten()
        self._keep(pairs_X.numpy(), weights_X.numpy())

    def _keep(self, keys: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        unique, places = np.unique(keys, return_inverse=True)
        self._keys.append(unique)
        sums = np.bincount(places, weights, minlength=len(unique))
        self._weights.append(sums.astype(np.float64))

    def use(self, host_layer: int) -> NewUse:
        """Return which experts fired in which documents."""
        keys, weights = np.concatenate(self._keys), np.concatenate(self._weights)
        self._keys, self._weights = [], []
        self._keep(keys, weights)
        pairs, sums = self._keys[0], self._weights[0]
        fired = sums > 0  # a weight may be too small for its type
        return NewUse(
            host_layer=host_layer,
            documents=pairs[fired] // self.num_experts,
            experts=pairs[fired] % self.num_experts,
            weights=sums[fired],
        )

    def inputs(self) -> Tensor:
        """Return the mean of what each expert read, (N, D), fp32."""
        return (self.sums_ND / self.totals_N.clamp_min(1e-30)[:, None]).float()
