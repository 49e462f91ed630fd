"""What every row of a new segment is used for: recorded after training.

For each (document, host layer): which rows fired, and their router weight summed over the
document's tokens. A row that no document's own text uses may have learned from other wordings of
one, and speak on them: what was read in other words is read once more too, and such rows, those
alone, are recorded under the documents whose wordings use them. For each row: the mean of what it
read, weighted likewise, which is its vector in the index over rows. And what each document loses
with the pool on.

Shape suffixes: B rows of a batch, T tokens, D width, H heads, K chosen, N experts, X pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.attach import Attachment
from peer_cl.branches import default_position_ids, run_branch, run_trunk
from peer_cl.errors import DamageError
from peer_cl.pool import Segment
from pipelines.batches import Row, group_by_length, pad
from pipelines.features import Features, is_text, text_nats
from pipelines.precision import reading
from stores import NewUse, Registry
from stores import Segment as StoredSegment

Floats: TypeAlias = NDArray[np.float32]
FORMAT = "peer-cl-inputs-1"


@dataclass(frozen=True)
class RecordedUse:
    """What one pass over the learned documents has shown."""

    uses: list[NewUse]
    """One a host layer."""
    inputs: dict[int, Tensor]
    """By host layer, (N, D): the mean of what each row read; 0 for a row that never fired."""
    losses: dict[str, tuple[float, float]]
    """By document id, nats a token: the base's loss, and the loss with the pool on."""

    def to_bytes(self) -> bytes:
        """Return the rows' mean inputs as the bytes of an object; half precision where it holds."""
        tensors = {}
        for layer, inputs_ND in self.inputs.items():
            half_ND = inputs_ND.half()
            tensors[f"layers.{layer}"] = half_ND if half_ND.isfinite().all() else inputs_ND
        return save(tensors, metadata={"inputs": json.dumps({"format": FORMAT})})


class _Layer:
    """What is summed up for one host layer."""

    def __init__(self, segment: Segment) -> None:
        self.num_experts = segment.shape.num_experts
        self.sums_ND = torch.zeros(self.num_experts, segment.width, dtype=torch.float64)
        self.totals_N = torch.zeros(self.num_experts, dtype=torch.float64)
        self._keys: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._counted_N = torch.ones(self.num_experts, dtype=torch.bool)

    def count_unused(self) -> int:
        """Count from now on the rows alone that nothing has used yet; return how many they are."""
        self._counted_N = self.totals_N == 0
        return int(self._counted_N.sum())

    def add(
        self, inputs_TD: Tensor, documents_T: Tensor, weights_TC: Tensor, ids_TC: Tensor
    ) -> None:
        """Add tokens: what they are of, and which rows they asked how much."""
        num_tokens, num_chosen = ids_TC.shape
        weights_TC = weights_TC * self._counted_N[ids_TC]
        weights_X = weights_TC.double().flatten()
        fired_R, places_X = ids_TC.flatten().unique(return_inverse=True)
        tokens_X = torch.arange(num_tokens).repeat_interleave(num_chosen)
        # One product over the rows that fired: adding token by token moves far more memory.
        asked_RT = torch.zeros(len(fired_R), num_tokens)
        asked_RT.index_put_((places_X, tokens_X), weights_X.float(), accumulate=True)
        self.sums_ND.index_add_(0, fired_R, (asked_RT @ inputs_TD).double())
        self.totals_N.index_add_(0, ids_TC.flatten(), weights_X)
        pairs_X = documents_T.repeat_interleave(num_chosen) * self.num_experts + ids_TC.flatten()
        self._keep(pairs_X.numpy(), weights_X.numpy())

    def _keep(self, keys: np.ndarray, weights: np.ndarray) -> None:
        unique, places = np.unique(keys, return_inverse=True)
        self._keys.append(unique)
        self._weights.append(np.bincount(places, weights, minlength=len(unique)))

    def use(self, host_layer: int) -> NewUse:
        """Return which rows fired in which documents."""
        keys, weights = np.concatenate(self._keys), np.concatenate(self._weights)
        self._keys, self._weights = [], []
        self._keep(keys, weights)
        (pairs,), (weights,) = self._keys, self._weights
        fired = weights > 0  # a weight may be too small for its type
        return NewUse(
            host_layer=host_layer,
            documents=pairs[fired] // self.num_experts,
            rows=pairs[fired] % self.num_experts,
            weights=weights[fired],
        )

    def inputs(self) -> Tensor:
        """Return the mean of what each row read, (N, D), fp32."""
        return (self.sums_ND / self.totals_N.clamp_min(1e-30)[:, None]).float()


class _Recorder:
    """Watches a segment speak, and sums up what its rows are used for."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.layers = {number: _Layer(segment) for number in segment.host_layers}
        self._counted_T = torch.empty(0, dtype=torch.bool)
        self._documents_T = torch.empty(0, dtype=torch.long)

    def begin(self, counted_BT: Tensor, positions_B: Tensor) -> None:
        """Say which tokens of the next batch count, and of which document each row is."""
        self._counted_T = counted_BT.flatten()
        self._documents_T = positions_B[:, None].expand_as(counted_BT)[counted_BT]

    def count_unused(self) -> int:
        """Count from now on, in each host layer, the rows alone that nothing has used yet; return
        how many they are."""
        return sum([layer.count_unused() for layer in self.layers.values()])

    def __call__(
        self,
        speaking: Segment,
        number: int,
        inputs_TD: Tensor,
        weights_THK: Tensor,
        ids_THK: Tensor,
    ) -> None:
        """Add what the segment reads at a host layer."""
        if speaking is self.segment:
            counted_T = self._counted_T
            self.layers[number].add(
                inputs_TD[counted_T],
                self._documents_T,
                weights_THK[counted_T].flatten(1),
                ids_THK[counted_T].flatten(1),
            )


class _Losses:
    """What each document loses, the base's way and with the pool on."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float, int]] = {}

    def add(self, document_id: str, base_nats: float, nats: float, num_tokens: int) -> None:
        """Add one row of a document."""
        base, own, num = self._sums.get(document_id, (0.0, 0.0, 0))
        self._sums[document_id] = (base + base_nats, own + nats, num + num_tokens)

    def per_token(self) -> dict[str, tuple[float, float]]:
        """Return the two losses of every document, nats a token."""
        return {
            key: (base / max(1, num), own / max(1, num))
            for key, (base, own, num) in self._sums.items()
        }


def record_use(
    attachment: Attachment,
    segment: Segment,
    *,
    older: Sequence[Segment],
    rows: Sequence[Row],
    others: Sequence[Row],
    positions: Mapping[str, int],
    features: Features,
    tokens_per_step: int,
    end_id: int | None,
    precision: str = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RecordedUse:
    """Read what a segment was trained on once more, and return what its rows are used for.

    Only tokens that predict a token of the text count: neither what predicts the end, nor padding.

    Args:
        attachment: the base with its hooks.
        segment: trained.
        older: the domain's older segments.
        rows: the documents as they were trained on; the first of the run's rows.
        others: what was read of them in other words; counts for rows that no document uses.
        positions: of the documents within the segment, by id.
        features: of `rows`.
        tokens_per_step: padded tokens a pass.
        end_id: the token at the end of a document, no part of its text.
        precision: of the base's products, as in training.
        progress: told (rows done, rows in all).
    """
    recorder, losses = _Recorder(segment), _Losses()
    num_all = len(rows) + len(others)

    def read(some: Sequence[Row], done: int) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Yield groups of rows with their ids, mask and logits; the recorder watches."""
        for group in group_by_length([len(row.ids) for row in some], tokens_per_step):
            ids_BT, mask_BT = pad([some[number].ids for number in group], pad_id=0)
            # A position counts when the token that it predicts is a word of the document.
            counted_BT = is_text(ids_BT, mask_BT, end_id).roll(-1, 1)
            places = [positions[some[number].document_id] for number in group]
            recorder.begin(counted_BT, torch.tensor(places))
            tap_BTD = features.tap_states(group, ids_BT.shape[1]) if some is rows else None
            if tap_BTD is None:
                tap_BTD = run_trunk(
                    attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                )
            logits_BTV = run_branch(
                attachment,
                [*older, segment],
                tap_BTD,
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
                watch=recorder,
            )
            yield group, ids_BT, mask_BT, logits_BTV
            done += len(group)
            progress(done, num_all)

    with reading(attachment.model, precision):
        for group, ids_BT, mask_BT, logits_BTV in read(rows, 0):
            nats_B = text_nats(logits_BTV, ids_BT, mask_BT, end_id).sum(-1).tolist()
            counts_B = is_text(ids_BT, mask_BT, end_id).sum(-1).tolist()
            for number, nats, num_tokens in zip(group, nats_B, counts_B, strict=True):
                document_id, base_nats = rows[number].document_id, features.base_nats[number]
                losses.add(document_id, base_nats, nats, num_tokens)
        # Real domains use nearly every row by their texts alone: then there is nothing to look for.
        if recorder.count_unused():
            for _ in read(others, len(rows)):
                pass
    progress(num_all, num_all)
    return RecordedUse(
        uses=[layer.use(number) for number, layer in recorder.layers.items()],
        inputs={number: layer.inputs() for number, layer in recorder.layers.items()},
        losses=losses.per_token(),
    )


def read_inputs(registry: Registry, segment: StoredSegment) -> dict[int, Floats]:
    """Return the mean input of each row of a stored segment, (N, D), by host layer.

    Empty where no use was recorded.

    Raises: DamageError: when the object is no such thing.
    """
    if segment.use_object is None:
        return {}
    data = registry.objects.read(segment.use_object)
    try:
        size = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["inputs"])
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamageError(
            f"object {segment.use_object} holds no rows' inputs: {error!r}"
        ) from error
    if about.get("format") != FORMAT:
        raise DamageError(
            f"object {segment.use_object} has format {about.get('format')!r}, not {FORMAT!r}"
        )
    return {
        int(name.removeprefix("layers.")): tensor.float().numpy()
        for name, tensor in tensors.items()
    }
