"""The rival behind the same mixture: one LoRA a domain, through PEFT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import get_linear_schedule_with_warmup

from benchmarks.stream.data import Prepared
from peer_cl.bases import Base
from peer_cl.hooks import Hooks, Watch
from peer_cl.model import PeerModel
from pipelines.batches import next_weights, weighted_loss
from pipelines.settings import TrainingSettings, resolve_precision
from pipelines.training import PlannedSteps

RANKS = {"lora-mixture": 16, "lora-mixture-equal": 27}
"""At rank 27 LoRA trains as many parameters as a pool has: 8.1 million."""
LEARNING_RATE = 1e-3
"""Chosen at 7c582c8 among three, by validation documents of the first two domains."""


def train_adapter(base: Base, rank: int, data: Prepared, settings: TrainingSettings) -> Any:
    """Return the base with a LoRA on every linear layer, trained on a domain's steps.

    AdamW without decay, on the loss that our pools learn from; the rate warms up, then falls to 0.
    """
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model: Any = peft.get_peft_model(base.model, config)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=0.0)
    steps = PlannedSteps(data.rows, data.steps, 0, settings.answer_weight)
    schedule = get_linear_schedule_with_warmup(optimizer, settings.warmup_steps, len(steps))
    is_bf16 = resolve_precision(settings.precision) == "bf16"
    model.train()
    for batch in steps:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=is_bf16):
            logits_BTV = model(batch.ids_BT, batch.mask_BT, use_cache=False).logits
            loss = weighted_loss(logits_BTV[next_weights(batch) > 0], batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model


class AdapterReader:
    """One LoRA a domain behind our mixture: `peer_cl.read.read` takes it for a `PeerModel`.

    Args:
        ours: our pools of the same domains; they lend their router keys and the mixture's settings.
        base: the pretrained model, loaded anew; adapters are put on it.
        folders: by domain, where its adapter was saved.
    """

    def __init__(self, ours: PeerModel, base: Base, folders: dict[str, Path]) -> None:
        first, *rest = folders
        model: Any = peft.PeftModel.from_pretrained(base.model, folders[first], first)
        for name in rest:
            model.load_adapter(folders[name], name)
        self.adapters = model.eval()
        self.adapters.base_model.disable_adapter_layers()
        self.hooks = Hooks(self.adapters.get_base_model(), ours.hooks.state_layer)
        self.background, self.search = ours.background, ours.search
        self.mention_odds, self.special_ids = ours.mention_odds, ours.special_ids
        self.prior, self.key = ours.prior, ours.key
        self._names = self.active_pools = tuple(sorted(folders))

    @contextmanager
    def branch(self, name: str, watch: Watch | None = None) -> Iterator[None]:
        """Run the base with one domain's adapter inside."""
        with self.hooks.lock:
            self.adapters.base_model.enable_adapter_layers()
            self.adapters.set_adapter(name)
            try:
                yield
            finally:
                self.adapters.base_model.disable_adapter_layers()

    def set_pool(self, names: str | Sequence[str] | None) -> None:
        """Let only these domains be active; None: every one."""
        wanted = (names,) if isinstance(names, str) else names
        self.active_pools = self._names if wanted is None else tuple(sorted(wanted))

    def check_active(self, names: Sequence[str]) -> None:
        """Nothing to refuse: the benchmark names its own domains."""
