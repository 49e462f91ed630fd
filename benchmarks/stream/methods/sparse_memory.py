"""Sparse memory finetuning: one pool for all domains, of which each changes few rows.

Source: the idea of Lin et al. 2025 (arXiv 2510.15103), written anew. Rows are ranked by tf-idf of
their use, and only those that a domain uses much and other text seldom are trained. Differs:
- Their memory is pretrained. Ours begins as nothing, so the first domain trains all of it, and its
  router; from then on the router is frozen, since it decides for every domain.
- Their rows are chosen in each step, ours once for a domain, so that what it changed is known.
- Their optimiser is SGD; here it is AdamW, as for every method.
- Rows are those of this project's pools, beside the feed-forward of three layers, where so many lie
  together that a text does not use them all: ranks say nothing where every text uses all (with a
  pool's 196 rows a layer two domains' chosen rows were two thirds the same).
As there, rows are ranked against ordinary text; nothing but that keeps two domains' rows apart.

Shape suffixes: B rows of a batch, T tokens, X positions in all rows, H heads, K chosen, C chosen by
all heads, N experts, R texts, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.stream.data import Prepared
from benchmarks.stream.keeping import save_tensors
from benchmarks.stream.methods.training import train
from peer_cl.attach import Watch
from peer_cl.bases import Base
from peer_cl.branches import default_position_ids, run_branch, run_trunk
from peer_cl.errors import DamageError, InputError
from peer_cl.layer import PoolShape
from peer_cl.model import PeerModel
from peer_cl.pool import Segment, tensors_sha256
from peer_cl.product_keys import top_k_lowest_index
from pipelines.batches import group_by_length, pad
from pipelines.progress import Progress
from pipelines.reading import Reader
from pipelines.settings import TrainingSettings
from pipelines.token_scores import TOKENS_PER_PASS

Chosen = dict[int, Tensor]
"""By host layer, which rows may change: bool, (N,)."""
_FILE, _LEARNED = "memory.safetensors", "num_learned"
SHAPE = PoolShape(num_experts=2304)
"""In three layers as many parameters as a pool has: 8.0M in rows."""


def memory_layers(depth: int) -> tuple[int, ...]:
    """Return the host layers: three, spread over a model's depth.

    Example:
        >>> memory_layers(30)
        (7, 15, 22)
    """
    return tuple(sorted({depth * quarter // 4 for quarter in (1, 2, 3)}))


class SparseMemory:
    """A base with one pool in few host layers that all domains write to.

    Args:
        base: never changed.
        background: texts of no domain as token ids, the start token first: those of
            `load_background("calibration")`. All are read again for each domain but the first.
        num_rows: how many rows of each host layer a later domain may change; default: an eighth.
        shape: the pool's; default: SHAPE.
        seed: of its beginnings.

    Raises:
        InputError: when there are fewer rows than that, or no background.
    """

    name = "sparse"

    def __init__(
        self,
        base: Base,
        background: Sequence[Sequence[int]],
        *,
        num_rows: int | None = None,
        shape: PoolShape | None = None,
        seed: int = 0,
    ) -> None:
        depth = base.model.config.get_text_config(decoder=True).num_hidden_layers
        self.model = PeerModel(base.model, host_layers=memory_layers(depth), identity=base.identity)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.memory = self.model.new_segment(shape or SHAPE)
        most = self.memory.shape.num_experts
        num_rows = most // 8 if num_rows is None else num_rows
        if not 0 < num_rows <= most:
            raise InputError(f"num_rows must lie in 1..{most} (num_experts), not {num_rows}")
        if not background:
            raise InputError("without background texts no row can be ranked; give some")
        self.background, self.num_rows = [tuple(ids) for ids in background], num_rows
        self.pad_id = int(base.tokenizer.eos_token_id)
        self.num_learned = 0
        self.num_parameters = self._num_trained()

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Learn a domain: the first with all of the memory, a later one with its own few rows.

        Args:
            data: the domain.
            learning_rate: of rows; the router's is in proportion to it, as in the settings.
            settings: the rest.
            progress: told how far it is.

        Raises:
            DamageError: when the loss is not finite, or bytes changed that must not.
        """
        is_first = self.num_learned == 0
        chosen = self._everything() if is_first else self.choose(data, progress)
        groups = self._groups(learning_rate, settings)
        before = frozen_sha256(self.memory, chosen, with_router=not is_first)
        with self.model.attachment.frozen(), _training(self.memory, chosen, groups):
            train(
                self._logits,
                groups,
                data,
                learning_rate=learning_rate,
                settings=settings,
                progress=progress,
            )
        if frozen_sha256(self.memory, chosen, with_router=not is_first) != before:
            raise DamageError(f"{data.name}: bytes changed that are not of the chosen rows")
        self.num_learned += 1
        self.num_parameters = self._num_trained()

    def choose(self, data: Prepared, progress: Progress) -> Chosen:
        """Return the rows that a domain may change: the first by tf-idf in each host layer.

        A domain's row of text counts as often as training reads it; a background text is what a
        batch is to Lin et al.
        """
        times = Counter(number for step in data.steps for number in step)
        numbers = sorted(times)
        progress("ranking rows", 0, 2, "")
        own = self.uses([data.rows[number].ids for number in numbers])
        progress("ranking rows", 1, 2, "")
        foreign = self.uses(self.background)
        progress("ranking rows", 2, 2, "")
        times_R1 = torch.tensor([[times[number]] for number in numbers])
        chosen = {}
        for layer, uses_RN in own.items():
            ranks_N = tf_idf((uses_RN * times_R1).sum(0), foreign[layer])
            _, best = top_k_lowest_index(ranks_N, self.num_rows)
            chosen[layer] = torch.zeros(len(ranks_N), dtype=torch.bool)
            chosen[layer][best] = True
        return chosen

    @torch.no_grad()
    def uses(self, texts: Sequence[Sequence[int]]) -> dict[int, Tensor]:
        """Return, by host layer, how often each text's tokens ask each row: int64, (R, N)."""
        num = self.memory.shape.num_experts
        found = {layer: torch.zeros(len(texts), num).long() for layer in self.memory.host_layers}
        for group in group_by_length([len(ids) for ids in texts], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([texts[number] for number in group], self.pad_id)
            counted_BT = mask_BT.clone()
            counted_BT[:, 0] = 0  # the start token is no text's own, and all that the head reads
            asked: dict[int, Tensor] = {}
            self._logits(ids_BT, mask_BT, watch=_keep(asked), head_reads_BT=mask_BT > counted_BT)
            for layer, asked_XHK in asked.items():
                asked_BTC = asked_XHK.reshape(*ids_BT.shape, -1)
                counts_BTC = counted_BT.unsqueeze(-1).expand_as(asked_BTC)
                uses_BN = torch.zeros(len(group), num).long()
                uses_BN.scatter_add_(1, asked_BTC.flatten(1), counts_BTC.flatten(1))
                found[layer][group] = uses_BN
        return found

    def reader(self) -> Reader:
        """Return the base with the memory on."""

        def read(ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
            with torch.no_grad():
                return self._logits(ids_BT, mask_BT)

        return read

    def save(self, folder: Path) -> None:
        """Write the memory into a folder."""
        tensors = {name: tensor.contiguous() for name, tensor in self.memory.state_dict().items()}
        save_tensors({**tensors, _LEARNED: torch.tensor(self.num_learned)}, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Read the memory that `save` wrote, in place of what was learned so far."""
        tensors = load_file(folder / _FILE)
        self.num_learned = int(tensors.pop(_LEARNED))
        self.memory.load_state_dict(tensors)
        self.num_parameters = self._num_trained()

    def _groups(self, learning_rate: float, settings: TrainingSettings) -> list[dict[str, Any]]:
        layers = list(self.memory.peer_layers())
        rows = [parameter for layer in layers for parameter in layer.row_parameters()]
        groups: list[dict[str, Any]] = [{"params": rows, "lr": learning_rate}]
        if self.num_learned == 0:
            keys = [parameter for layer in layers for parameter in layer.key_parameters()]
            share = settings.key_learning_rate / settings.row_learning_rate
            groups.append({"params": keys, "lr": learning_rate * share})
        return groups

    def _num_trained(self) -> int:
        """Return how many numbers the last domain trained; before any, those of the first."""
        if self.num_learned <= 1:
            return sum(parameter.numel() for parameter in self.memory.parameters())
        return 2 * self.memory.width * self.num_rows * len(self.memory.host_layers)

    def _everything(self) -> Chosen:
        num = self.memory.shape.num_experts
        return {layer: torch.ones(num, dtype=torch.bool) for layer in self.memory.host_layers}

    def _logits(self, ids_BT: Tensor, mask_BT: Tensor, **options: Any) -> Tensor:
        attachment = self.model.attachment
        with torch.no_grad():
            tap_BTD = run_trunk(
                attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
            )
        return run_branch(
            attachment,
            [self.memory],
            tap_BTD,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
            **options,
        )


def _keep(asked: dict[int, Tensor]) -> Watch:
    """Return a watch that keeps which rows each position asks, by host layer."""

    def watch(_: Segment, layer: int, __: Tensor, ___: Tensor, ids_XHK: Tensor) -> None:
        asked[layer] = ids_XHK

    return watch


def tf_idf(uses_N: Tensor, background_RN: Tensor) -> Tensor:
    """Return how much a row is a domain's own: its share of the uses, times how rare it is else.

    Args:
        uses_N: how often the domain uses each row.
        background_RN: the same of each background text.

    Example:
        >>> background = torch.tensor([[5, 0, 0], [1, 0, 1], [2, 0, 0]])
        >>> [round(rank, 3) for rank in tf_idf(torch.tensor([2, 1, 1]), background).tolist()]
        [0.0, 0.347, 0.173]
    """
    share_N = uses_N.double() / uses_N.sum()
    num_using_N = (background_RN > 0).sum(0).double()
    rank_N: Tensor = share_N * ((len(background_RN) + 1) / (num_using_N + 1)).log()
    return rank_N


def frozen_sha256(memory: Segment, chosen: Chosen, *, with_router: bool) -> str:
    """Return a hash over what a domain must not change: rows that were not chosen, the router.

    Args:
        memory: the pool.
        chosen: which rows may change.
        with_router: whether the router's queries and keys are among it.
    """
    tensors: dict[str, Tensor] = {}
    for number in memory.host_layers:
        layer = memory.layer(number)
        for name, parameter in layer.named_parameters():
            if any(parameter is row for row in layer.row_parameters()):
                tensors[f"{number}.{name}"] = parameter.detach()[~chosen[number]]
            elif with_router:
                tensors[f"{number}.{name}"] = parameter.detach()
    return tensors_sha256(tensors)


@contextmanager
def _training(memory: Segment, chosen: Chosen, groups: list[dict[str, Any]]) -> Iterator[None]:
    """Let gradients reach the groups' parameters, and of their rows the chosen ones alone.

    A row whose gradients were all 0 keeps its bits under an Adam that is new and has no decay.
    """
    memory.requires_grad_(False)
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    handles = [
        parameter.register_hook(_masked(chosen[number].unsqueeze(1)))
        for number in memory.host_layers
        for parameter in memory.layer(number).row_parameters()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        memory.requires_grad_(False)
        memory.zero_grad(set_to_none=True)


def _masked(chosen_N1: Tensor) -> Callable[[Tensor], Tensor]:
    def mask(gradient_ND: Tensor) -> Tensor:
        return gradient_ND.where(chosen_N1, 0.0)

    return mask
