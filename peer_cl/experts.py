"""The single-neuron experts of one host layer.

Shape suffixes: T tokens, D model width, H heads, K chosen, N experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from peer_cl.errors import InputError

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
}
"""The activations that a pool may use, by the name that its metadata stores."""

DENSE_LIMIT = 8192
"""Up to this many experts, one dense product over all rows beats gathering the chosen ones on a
CPU: a gather moves T*H*K*D numbers through memory, the product reads N*D once."""


class ExpertRows(nn.Module):
    """N experts of one neuron each: expert i maps z to act(down_i . z) * up_i.

    `up` starts at zero, so new rows write exactly nothing. Source: He 2024, arXiv 2407.04153.

    Args:
        num_experts: N.
        width: D, what a row reads.
        activation: a key of ACTIVATIONS.
        out_width: what a row writes; default: D.

    Raises:
        InputError: when the activation is unknown.
    """

    def __init__(
        self,
        *,
        num_experts: int,
        width: int,
        activation: str = "gelu",
        out_width: int | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InputError(f"no activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.down_ND = nn.Parameter(torch.randn(num_experts, width) / math.sqrt(width))
        # D, or what it writes into; the name is that of files.
        self.up_ND = nn.Parameter(torch.zeros(num_experts, out_width or width))

    def forward(self, inputs_TD: Tensor, ids_THK: Tensor, weights_THK: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs.

        Args:
            inputs_TD: float, (T, D), what the feed-forward reads.
            ids_THK: int64 in [0, N); an expert chosen by two heads counts twice.
            weights_THK: float, the router's weights; fp32 beside rows of half precision too.

        Returns:
            (T, what a row writes), dtype of the inputs.
        Cost: O(N*D) a token up to DENSE_LIMIT experts, O(H*K*D) above.
        """
        if self.down_ND.shape[0] <= DENSE_LIMIT:
            return self._dense(inputs_TD, ids_THK.flatten(1), weights_THK.flatten(1))
        return self._gathered(inputs_TD, ids_THK.flatten(1), weights_THK.flatten(1))

    def _dense(self, inputs_TD: Tensor, ids_TC: Tensor, weights_TC: Tensor) -> Tensor:
        hidden_TN = inputs_TD @ self.down_ND.T
        active_TC = self.activation(hidden_TN.gather(1, ids_TC)) * weights_TC.to(hidden_TN.dtype)
        mixed_TN = torch.zeros_like(hidden_TN).scatter_add(1, ids_TC, active_TC)
        return mixed_TN @ self.up_ND

    def _gathered(self, inputs_TD: Tensor, ids_TC: Tensor, weights_TC: Tensor) -> Tensor:
        down_TCD = functional.embedding(ids_TC, self.down_ND)
        hidden_TC = torch.bmm(down_TCD, inputs_TD.unsqueeze(-1)).squeeze(-1)
        active_TC = self.activation(hidden_TC) * weights_TC.to(hidden_TC.dtype)
        return functional.embedding_bag(
            ids_TC, self.up_ND, per_sample_weights=active_TC, mode="sum"
        )
