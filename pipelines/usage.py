"""How much every shared expert of a new segment is used, recorded after training.

For each shard and host layer: the router's weight of each expert, summed over the documents that
taught the shard. And what each document costs with the domain's pool active.

Shape suffixes: B rows of a batch, T tokens, H heads, K chosen, N experts of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, OwnExperts
from peer_cl.pool import Segment
from pipelines.batches import Row, group_by_length, pad
from pipelines.keys import READ_TOKENS, is_text, text_nats
from pipelines.progress import Progress, no_progress
from pipelines.settings import reading


@dataclass(frozen=True)
class RecordedUse:
    """What one pass over the learned documents showed."""

    weights: dict[int, dict[int, Tensor]]
    """By shard and host layer, (N,) fp64: the router's weight of each expert over all tokens."""
    losses: dict[str, tuple[float, float]]
    """By document id, nats a token: of the base, and with the pool active."""

    def to_bytes(self, shard: int) -> bytes:
        """Return a shard's weights as safetensors bytes."""
        return save({f"layers.{n}": one.float() for n, one in self.weights[shard].items()})


def read_use(data: bytes) -> dict[int, Tensor]:
    """Return the weights (N,) of a shard's experts by host layer; DamageError for others' bytes."""
    try:
        return {int(name.removeprefix("layers.")): one for name, one in load(data).items()}
    except (SafetensorError, ValueError) as error:
        raise DamageError(f"an object holds no experts' use: {error!r}") from error


def record_use(
    hooks: Hooks,
    shards: Mapping[int, Segment],
    *,
    older: Sequence[Segment],
    own: OwnExperts,
    rows: Sequence[Row],
    row_shards: Sequence[int],
    base_nats: Sequence[float],
    end_id: int | None,
    precision: str,
    progress: Progress = no_progress,
) -> RecordedUse:
    """Read what a segment was trained on once more, and return what its experts are used for.

    Only positions that predict a token of the text count: neither what predicts the end, nor
    padding.

    Args:
        hooks: on the base.
        shards: the segment's shared experts, scaled as they are to be used.
        older: the shared experts of the domain's older segments.
        own: the own experts of the rows, a row an item, in their order.
        rows: what was learned.
        row_shards: which shard each of them taught.
        base_nats: the base's loss on each of them, summed over its tokens.
        end_id: closes a row, and is no part of its text.
        precision: of the base's products.
        progress: called as the pass goes on.
    """
    recorder = _Recorder(shards)
    sums: dict[str, tuple[float, float, int]] = {}
    done = 0
    with reading(hooks.base, precision):
        for group in group_by_length([len(row.ids) for row in rows], READ_TOKENS):
            own_ids = [rows[number].ids for number in group]
            ids_BT, mask_BT = pad(own_ids, pad_id=0, device=hooks.device)
            text_BT = is_text(ids_BT, mask_BT, end_id)
            predicts_BT = text_BT.roll(-1, 1)
            recorder.begin(
                predicts_BT.cpu(), torch.tensor([row_shards[number] for number in group])
            )
            items_BT = torch.tensor(group)[:, None].where(mask_BT.cpu().bool(), NO_ITEM)
            segments = [*older, *shards.values()]
            with (
                hooks.branch(segments, watch=recorder, own=[own], items_BT=items_BT),
                hooks.head_at(predicts_BT),
            ):
                logits_XV = hooks.base(
                    input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
                ).logits[0]
            nats = text_nats(logits_XV, ids_BT, text_BT)
            for number, pool, num in zip(group, nats, text_BT.sum(-1).tolist(), strict=True):
                key = rows[number].document_id
                base, before, tokens = sums.get(key, (0.0, 0.0, 0))
                sums[key] = (base + base_nats[number], before + pool, tokens + num)
            done += len(group)
            progress("recording use", done, len(rows), "")
    return RecordedUse(
        weights=recorder.weights,
        losses={
            key: (base / max(1, num), pool / max(1, num)) for key, (base, pool, num) in sums.items()
        },
    )


class _Recorder:
    """Watches a branch, and sums up how much each shard's experts are used by its own documents."""

    def __init__(self, shards: Mapping[int, Segment]) -> None:
        self._shards = {id(segment): number for number, segment in shards.items()}
        self.weights = {
            number: {
                layer: torch.zeros(segment.shape.num_experts, dtype=torch.float64)
                for layer in segment.host_layers
            }
            for number, segment in shards.items()
        }
        self._shard_T = torch.empty(0, dtype=torch.long)

    def begin(self, counted_BT: Tensor, shards_B: Tensor) -> None:
        """Set which tokens of the next batch count, and which shard each row taught."""
        self._shard_T = shards_B[:, None].where(counted_BT, -1).flatten()

    def __call__(
        self, active: Segment, number: int, _: Tensor, weights_THK: Tensor, ids_THK: Tensor
    ) -> None:
        """Add what a segment reads at a host layer."""
        shard = self._shards.get(id(active))
        if shard is not None:
            is_own_T = self._shard_T == shard
            ids, weights = (one.cpu()[is_own_T].flatten() for one in (ids_THK, weights_THK))
            self.weights[shard][number].index_add_(0, ids, weights.double())
