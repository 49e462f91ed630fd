"""What people know, through PEFT and transformers' trainer: LoRA, OSF, full finetuning.

A method is trained on one domain after the other, or a LoRA a domain stands behind our mixture.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from benchmarks.stream.data import Prepared
from peer_cl.bases import Base
from peer_cl.hooks import Hooks, Watch
from peer_cl.model import PeerModel
from peer_cl.read import token_log_probs
from peer_cl.router import RouterKey
from pipelines.batches import Batch, group_by_length, next_weights, pad, weighted_loss
from pipelines.recall import Question
from pipelines.settings import TrainingSettings, resolve_precision
from pipelines.training import PlannedSteps

RATES = {"lora": 1e-3, "lora-replay": 1e-3, "osf": 1e-4, "full": 1e-4}
RATES |= {"lora-mixture": 1e-3, "lora-mixture-equal": 1e-3}
"""Chosen at 7c582c8 among three each, by validation documents of the first two domains."""
RANKS = {"lora": 16, "lora-replay": 16, "lora-mixture": 16, "lora-mixture-equal": 27}
"""At rank 27 LoRA trains as many parameters as a pool has: 8.1 million."""
REPLAY_SHARE = 0.1
"""Of the tokens that are read, those of earlier domains; they come on top of the new one's own."""
OSF_KEPT = (0.3, 0.9)
"""Share of each matrix's singular directions that OSF protects, in the first and in the last
domain; PEFT's guide protects more and more too."""
TOKENS_PER_PASS = 1024


def new_lora(base: Base, method: str, seed: int) -> Any:
    """Return the base with a new adapter on every linear layer."""
    rank = RANKS[method]
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return peft.get_peft_model(base.model, config)


def learn_next(
    base: Base,
    method: str,
    data: Prepared,
    *,
    number: int,
    num_domains: int,
    before: Path | None,
    settings: TrainingSettings,
    work: Path,
) -> tuple[Any, int]:
    """Train one model further on its next domain; return it and its number of trained parameters.

    Args:
        base: the pretrained model, changed in place.
        method: "lora", "lora-replay", "osf" or "full".
        data: the domain, with replayed steps in it where the method replays.
        number: the domain's place in the stream, from 0.
        num_domains: of the whole stream.
        before: where `save` kept the model of the domain before; None: this is the first.
        settings: as for our pools.
        work: a folder for the trainer.
    """
    if method.startswith("lora"):
        if before is None:
            model = new_lora(base, method, settings.seed)
        else:
            model = peft.PeftModel.from_pretrained(base.model, before, is_trainable=True)
        fit(model, data, RATES[method], settings, work)
        return model, num_trained(model)
    model = base.model if before is None else AutoModelForCausalLM.from_pretrained(before).eval()
    if method == "full":
        fit(model.requires_grad_(True), data, RATES[method], settings, work)
        return model, num_trained(model)
    first, last = OSF_KEPT
    kept = first + (last - first) * number / max(1, num_domains - 1)
    config = peft.OSFConfig(effective_rank=kept, target_modules=_linear_names(model))
    wrapped: Any = peft.get_peft_model(model, config)
    fit(wrapped, data, RATES[method], settings, work)
    num_parameters = num_trained(wrapped)
    merged = wrapped.merge_and_unload()
    # PEFT's gradient hooks refer to the layers that hold them: only a collection frees those.
    del wrapped
    gc.collect()
    return merged, num_parameters


class StepTrainer(Trainer):
    """transformers' trainer on steps of rows that were planned before, with their weights."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return a step's weighted loss, as our pools are trained with."""
        batch = Batch(inputs["input_ids"], inputs["attention_mask"], inputs["weights"], ())
        outputs = model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, use_cache=False)
        loss = weighted_loss(outputs.logits[next_weights(batch) > 0], batch)
        return (loss, outputs) if return_outputs else loss


def fit(
    model: Any, data: Prepared, learning_rate: float, settings: TrainingSettings, work: Path
) -> None:
    """Train a model on a domain's steps: AdamW without decay, warmed up, then falling to 0."""
    steps = PlannedSteps(data.rows, data.steps, 0, settings.answer_weight)
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=1,
        per_device_train_batch_size=1,  # an example is a whole step
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="linear",
        max_grad_norm=0.0,
        bf16=resolve_precision(settings.precision) == "bf16",
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        seed=settings.seed,
        use_cpu=model.device.type == "cpu",
    )
    trainer = StepTrainer(
        model=model,
        args=arguments,
        train_dataset=list(steps),
        data_collator=_as_inputs,
    )
    trainer.train()
    model.requires_grad_(False)
    model.eval()


def _as_inputs(examples: Sequence[Batch]) -> dict[str, Tensor]:
    (batch,) = examples
    return {
        "input_ids": batch.ids_BT,
        "attention_mask": batch.mask_BT,
        "weights": batch.weights_BT,
    }


def num_trained(model: nn.Module) -> int:
    """Return how many parameters are trained: those of the adapter, or all."""
    is_adapter = any("lora_" in name or "osf_svd" in name for name, _ in model.named_parameters())
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not is_adapter or "lora_" in name or "osf_svd_params" in name
    )


def _linear_names(model: Any) -> list[str]:
    """Return the last names of the linear layers, the head's left out."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
    )


# Reading with one model


@torch.no_grad()
def losses(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """Return each row's loss by a model, summed over its tokens, nats."""
    found = [0.0] * len(rows)
    for group in group_by_length([len(row) for row in rows], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        nats_B = -(token_log_probs(logits_BTV, ids_BT) * mask_BT).sum(-1)
        for number, value in zip(group, nats_B.tolist(), strict=True):
            found[number] = value
    return found


@torch.no_grad()
def answers(model: Any, asked: Sequence[Question]) -> list[bool]:
    """Return for each question whether greedy decoding after its prompt writes the answer."""
    found = [False] * len(asked)
    for group in group_by_length([len(one.ids) for one in asked], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([asked[number].ids for number in group], pad_id=0)
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        for number, row_T in zip(group, logits_BTV.argmax(-1).tolist(), strict=True):
            one = asked[number]
            written = row_T[one.num_prompt - 1 : len(one.ids) - 1]
            found[number] = written == list(one.ids[one.num_prompt :])
    return found


def _adapters(base: Base, folders: dict[str, Path]) -> Any:
    first, *rest = folders
    model = peft.PeftModel.from_pretrained(base.model, folders[first], adapter_name=first)
    for name in rest:
        model.load_adapter(folders[name], adapter_name=name)
    return model.eval()


class AdapterReader:
    """One LoRA a domain behind our mixture: `peer_cl.read.read` takes it for a `PeerModel`.

    Args:
        ours: our pools of the same domains; they lend their router keys and the mixture's settings.
        base: the pretrained model, loaded anew; adapters are put on it.
        folders: by domain, where its adapter was saved.
    """

    def __init__(self, ours: PeerModel, base: Base, folders: dict[str, Path]) -> None:
        names = list(folders)
        self.adapters = _adapters(base, folders)
        self.adapters.base_model.disable_adapter_layers()
        self.hooks = Hooks(self.adapters.get_base_model(), ours.hooks.state_layer)
        self.background, self.search = ours.background, ours.search
        self.mention_odds, self.special_ids = ours.mention_odds, ours.special_ids
        self.prior = ours.prior
        self.active_pools = tuple(sorted(names))
        self._ours, self._names = ours, tuple(sorted(names))

    def key(self, name: str) -> RouterKey | None:
        """Return the key by which the router finds a domain: that of our pool."""
        return self._ours.key(name)

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
