"""Methods that change what the model computes for every text: full finetuning, LoRA, OSF.

One model that is trained on one domain after the other. LoRA and OSF are PEFT's.
"""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.stream.data import Prepared
from benchmarks.stream.keeping import put_adapter, save_tensors
from benchmarks.stream.methods.training import Spared, train
from peer_cl.bases import Base
from peer_cl.durable import replace_file
from peer_cl.errors import DamageError
from pipelines.ordinary import OrdinaryText
from pipelines.precision import plain_attention
from pipelines.progress import Progress
from pipelines.reading import Reader, reader_of
from pipelines.settings import TrainingSettings

LORA_RANK = 16
REPLAY_SHARE = 0.1
"""Of the tokens that are read, those of earlier domains; they come on top of the new one's own."""
OSF_KEPT = (0.3, 0.9)
"""Share of each matrix's singular directions that OSF protects: in the first domain, in the last.
PEFT's guide protects more and more too, from none in the first of n domains to (n - 1) / n in the
last; its example begins at .3."""
WEIGHTS = "weights.safetensors"
STATE = "state.json"


class FullFinetuning:
    """Every weight of the model is trained."""

    name = "full"

    def __init__(self, base: Base) -> None:
        self.model = base.model
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Train all weights on the domain."""
        parameters = list(self.model.requires_grad_(True).parameters())
        _fit(self.model, parameters, data, learning_rate, settings, progress)
        self.model.requires_grad_(False)

    def reader(self) -> Reader:
        """Return the model as it is now."""
        return reader_of(self.model)

    def save(self, folder: Path) -> None:
        """Keep every weight, tied ones once."""
        save_tensors(_untied(self.model), folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        """Bring every weight back."""
        _put(self.model, load_file(folder / WEIGHTS))


class Lora:
    """A low-rank adapter on every linear layer, trained through the whole stream.

    Args:
        base: the pretrained model; it is changed in place.
        rank: r; alpha is twice that.
        replay: share of the tokens that are of earlier domains.
        name: the method's.
        seed: of the initialisation.
        ordinary: ordinary text that it reads besides, and leaves as the base has it.
    """

    def __init__(
        self,
        base: Base,
        *,
        rank: int = LORA_RANK,
        replay: float = 0.0,
        name: str = "lora",
        seed: int = 0,
        ordinary: OrdinaryText | None = None,
    ) -> None:
        self.name, self.replay, self.ordinary = name, replay, ordinary
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model: Any = peft.get_peft_model(base.model, config)
        self.num_parameters = sum(p.numel() for p in self.parameters())
        self.past: list[Prepared] = []
        """Domains learned before, for replay; the runner gives them back after a load."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return [p for name, p in self.model.named_parameters() if "lora_" in name]

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Train the adapter further, with rows of earlier domains where it replays."""
        seen = replayed(data, self.past, self.replay, settings) if self.replay else data
        spared = None if self.ordinary is None else Spared(self.ordinary, self._bare)
        _fit(self.model, self.parameters(), seen, learning_rate, settings, progress, spared)
        self.past.append(data)

    def reader(self) -> Reader:
        """Return the model with its adapter on."""
        return reader_of(self.model)

    def _bare(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        with self.model.disable_adapter():
            return self.reader()(ids_BT, mask_BT)

    def save(self, folder: Path) -> None:
        """Keep the adapter."""
        save_tensors(peft.get_peft_model_state_dict(self.model), folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        """Bring the adapter back."""
        put_adapter(self.model, folder / WEIGHTS)


class Osf:
    """PEFT's orthogonal subspace finetuning: the largest singular directions are protected.

    After each domain the change is merged, and the next one protects more directions.

    Args:
        base: the pretrained model; it is changed in place.
        num_domains: how long the stream is.
    """

    name = "osf"

    def __init__(self, base: Base, num_domains: int) -> None:
        self.base, self.num_domains, self.num_learned = base, num_domains, 0
        self.num_parameters = 0

    @property
    def kept(self) -> float:
        """Return the share of directions that the next domain may not touch."""
        first, last = OSF_KEPT
        return first + (last - first) * self.num_learned / max(1, self.num_domains - 1)

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Train what is not protected, then merge it."""
        config = peft.OSFConfig(effective_rank=self.kept, target_modules=_linear_names(self.base))
        wrapped: Any = peft.get_peft_model(self.base.model, config)
        parameters = [p for name, p in wrapped.named_parameters() if "osf_svd_params" in name]
        self.num_parameters = sum(p.numel() for p in parameters)
        _fit(wrapped, parameters, data, learning_rate, settings, progress)
        self.base = replace(self.base, model=wrapped.merge_and_unload())
        self.num_learned += 1
        # PEFT's gradient hooks refer to the layers that hold them: what was trained is freed by a
        # collection alone, and none need come before the next domain's lies in memory too.
        del wrapped, parameters
        gc.collect()

    def reader(self) -> Reader:
        """Return the merged model."""
        return reader_of(self.base.model)

    def save(self, folder: Path) -> None:
        """Keep every weight and how many domains are in it."""
        save_tensors(_untied(self.base.model), folder / WEIGHTS)
        replace_file(folder / STATE, json.dumps({"num_learned": self.num_learned}).encode())

    def load(self, folder: Path) -> None:
        """Bring the weights back."""
        _put(self.base.model, load_file(folder / WEIGHTS))
        self.num_learned = json.loads((folder / STATE).read_text())["num_learned"]


def replayed(
    data: Prepared, past: Sequence[Prepared], share: float, settings: TrainingSettings
) -> Prepared:
    """Return a domain's data with steps of earlier domains strewn in.

    The domain's own steps are all there: what is replayed comes on top, so that both LoRAs read as
    much of the new domain.

    Args:
        data: the new domain.
        past: earlier ones.
        share: of all tokens read, that are replayed, 0 to 1.
        settings: the seed of the draw.
    """
    if not past:
        return data
    draw = random.Random(f"{settings.seed} {data.name}")
    old = [(one, step) for one in past for step in one.steps]
    num_old = round(len(data.steps) * share / (1 - share))
    chosen = draw.sample(old, min(num_old, len(old)))
    rows, steps = list(data.rows), [tuple(step) for step in data.steps]
    for one, step in chosen:
        steps.insert(draw.randrange(len(steps) + 1), tuple(range(len(rows), len(rows) + len(step))))
        rows += [one.rows[number] for number in step]
    return replace(data, rows=tuple(rows), steps=tuple(steps))


def _fit(
    model: Any,
    parameters: Sequence[nn.Parameter],
    data: Prepared,
    learning_rate: float,
    settings: TrainingSettings,
    progress: Progress,
    spared: Spared | None = None,
) -> None:
    """Train parameters of a model: no dropout anywhere, so only attention's kernel changes."""
    model.eval()
    with torch.enable_grad(), plain_attention(model):
        train(
            reader_of(model),
            parameters,
            data,
            learning_rate=learning_rate,
            settings=settings,
            progress=progress,
            spared=spared,
        )


def _linear_names(base: Base) -> list[str]:
    """Return the last names of the linear layers, the head's left out."""
    head = base.model.get_output_embeddings()
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return sorted(found)


def _untied(model: nn.Module) -> dict[str, Tensor]:
    """Return weights by name, each tensor once: safetensors refuses shared memory."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def _put(model: nn.Module, weights: dict[str, Tensor]) -> None:
    missing = dict(model.named_parameters()).keys() ^ weights.keys()
    if missing:
        raise DamageError(
            f"weights differ from the model's in {sorted(missing)[:3]}; "
            "remove the method's states and raw files"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


class AdapterBranches:
    """One LoRA a domain: PEFT's adapters of these names on one model."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        self.model, self.names = model, tuple(names)

    def base(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the logits with every adapter off."""
        with self.model.disable_adapter():
            return self._logits(ids_BT, mask_BT)

    def branch(self, name: str, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the logits with one domain's adapter on."""
        self.model.set_adapter(name)
        return self._logits(ids_BT, mask_BT)

    def _logits(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        output = self.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        logits: Tensor = output.logits
        return logits
