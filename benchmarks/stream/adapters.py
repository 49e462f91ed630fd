"""Adapters as branches behind the mixture, as our pools are in `pipelines.branches`.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


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
