"""Products with chosen rows of a large matrix, and the optimiser for their sparse gradients.

A gather of the rows would write T*C*D numbers to memory and read them again; these read each chosen
row once, forward and backward, and the gradient holds the chosen rows alone. So a step's cost does
not grow with the number of experts.

Shape suffixes: T tokens, N rows of the matrix, C rows chosen for a token, D width, U different rows
that were chosen.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

DENSE_LIMIT = 1024
"""Up to so many rows, a matrix has a dense gradient."""
_FEW_ROWS = 64
"""Up to so many chosen rows, gathering them costs less than setting up a sampled product."""


def prefers_all_rows(inputs_TD: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> bool:
    """Return whether a dense product with all rows beats those with the chosen ones, which would
    have to be gathered.
    """
    gathers_many = ids_TC.numel() > _FEW_ROWS and not _is_plain(inputs_TD, matrix_ND)
    return gathers_many and len(matrix_ND) <= DENSE_LIMIT


def _is_plain(inputs_TD: Tensor, matrix_ND: Tensor) -> bool:
    return inputs_TD.is_cpu and inputs_TD.dtype == matrix_ND.dtype == torch.float32


def chosen_products(inputs_TD: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
    """Return each token's inner products with its chosen rows, (T, C).

    Example:
        >>> chosen_products(torch.ones(1, 2), torch.eye(2), torch.tensor([[1, 1]])).tolist()
        [[1.0, 1.0]]
    """
    known = torch.is_grad_enabled()  # a function with a gradient of its own takes a while to call
    return (_products_of if known else _products)(inputs_TD, matrix_ND, ids_TC)


def chosen_sum(weights_TC: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
    """Return the weighted sum of each token's chosen rows, (T, D).

    Example:
        >>> chosen_sum(torch.tensor([[2.0, 3.0]]), torch.eye(2), torch.tensor([[1, 1]])).tolist()
        [[0.0, 5.0]]
    """
    return (_sum_of if torch.is_grad_enabled() else _sum)(weights_TC, matrix_ND, ids_TC)


class _ChosenProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs_TD: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
        ctx.save_for_backward(inputs_TD, matrix_ND, ids_TC)
        return _products(inputs_TD, matrix_ND, ids_TC)

    @staticmethod
    def backward(ctx: Any, gradient_TC: Tensor) -> tuple[Tensor | None, ...]:
        inputs_TD, matrix_ND, ids_TC = ctx.saved_tensors
        wants_inputs, wants_matrix, _ = ctx.needs_input_grad
        return (
            _sum(gradient_TC, matrix_ND, ids_TC) if wants_inputs else None,
            _gradient(gradient_TC, inputs_TD, ids_TC, matrix_ND) if wants_matrix else None,
            None,
        )


class _ChosenSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights_TC: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
        ctx.save_for_backward(weights_TC, matrix_ND, ids_TC)
        return _sum(weights_TC, matrix_ND, ids_TC)

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor | None, ...]:
        weights_TC, matrix_ND, ids_TC = ctx.saved_tensors
        wants_weights, wants_matrix, _ = ctx.needs_input_grad
        return (
            _products(gradient_TD, matrix_ND, ids_TC) if wants_weights else None,
            _gradient(weights_TC, gradient_TD, ids_TC, matrix_ND) if wants_matrix else None,
            None,
        )


# torch types `apply` as untyped.
_products_of = cast(Callable[..., Tensor], _ChosenProducts.apply)
_sum_of = cast(Callable[..., Tensor], _ChosenSum.apply)


def _products(inputs_TD: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
    if ids_TC.numel() <= _FEW_ROWS or not _is_plain(inputs_TD, matrix_ND):
        rows_TCD = functional.embedding(ids_TC, matrix_ND)
        return torch.bmm(rows_TCD, inputs_TD.unsqueeze(-1)).squeeze(-1)
    # A sampled product: of all T*N, those that are wanted. It gathers nothing.
    _hear_beta_warning()
    num_tokens, num_chosen = ids_TC.shape
    wanted_TN = torch.sparse_csr_tensor(
        torch.arange(num_tokens + 1) * num_chosen,
        ids_TC.flatten(),
        inputs_TD.new_zeros(ids_TC.numel()),
        (num_tokens, len(matrix_ND)),
        check_invariants=False,  # a row of two heads may stand twice, and in any order
    )
    found_TN = torch.sparse.sampled_addmm(wanted_TN, inputs_TD.contiguous(), matrix_ND.T, beta=0.0)
    found_TC: Tensor = found_TN.values().view(num_tokens, num_chosen)
    return found_TC


def _sum(weights_TC: Tensor, matrix_ND: Tensor, ids_TC: Tensor) -> Tensor:
    return functional.embedding_bag(ids_TC, matrix_ND, per_sample_weights=weights_TC, mode="sum")


def _gradient(weights_TC: Tensor, inputs_TD: Tensor, ids_TC: Tensor, matrix_ND: Tensor) -> Tensor:
    """Return the gradient of the matrix: for each chosen row the weighted sum of the inputs of the
    tokens that chose it. It is sparse above DENSE_LIMIT rows.
    """
    ids_X, order_X = _in_order(ids_TC.flatten())
    ids_U, nums_U = torch.unique_consecutive(ids_X, return_counts=True)
    tokens_X, weights_X = order_X // ids_TC.shape[1], weights_TC.flatten()[order_X]
    rows_UD = functional.embedding_bag(
        tokens_X,
        inputs_TD,
        functional.pad(nums_U.cumsum(0)[:-1], (1, 0)),
        per_sample_weights=weights_X,
        mode="sum",
    )
    if len(matrix_ND) <= DENSE_LIMIT:
        return torch.zeros_like(matrix_ND).index_copy_(0, ids_U, rows_UD)
    return torch.sparse_coo_tensor(
        ids_U[None], rows_UD, matrix_ND.shape, is_coalesced=True, check_invariants=False
    )


def _in_order(ids_X: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids sorted, and the place of each: of equal ones the first comes first.

    Sorted are integers of an id and its place; on the CPU by numpy, five times as fast as torch.

    Example:
        >>> [one.tolist() for one in _in_order(torch.tensor([3, 1, 3]))]
        [[1, 3, 3], [1, 0, 2]]
    """
    num_bits = len(ids_X).bit_length()
    keys_X = (ids_X << num_bits) | torch.arange(len(ids_X), device=ids_X.device)
    if keys_X.is_cpu:
        keys_X.numpy().sort()
    else:
        keys_X = keys_X.sort().values
    return keys_X >> num_bits, keys_X & ((1 << num_bits) - 1)


@functools.cache
def _hear_beta_warning() -> None:
    """Let torch say once that compressed sparse rows are in beta, where nobody reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.eye(2).to_sparse_csr()


def _coalesced(gradient: Tensor) -> Tensor:
    """Return a sparse gradient with each row once, in rising order; autograd forgets that it is."""
    ids_U = gradient._indices()[0]
    return gradient if bool((ids_U[1:] > ids_U[:-1]).all()) else gradient.coalesce()


class PoolOptimiser(torch.optim.Optimizer):
    """Row-wise Adagrad for sparse gradients, Adam for dense ones: for training large pools.

    Of a sparse gradient the chosen rows move alone; a row's state is one number, the sum of its
    mean squared gradients. So a step's time and memory hardly grow with the number of experts.
    Source: row-wise Adagrad as recommendation models train embeddings (Naumov et al. 2019, arXiv
    1906.00091). Adagrad's rates fall by themselves: begin with about three times Adam's.

    Args:
        params: parameters, or groups of them with rates of their own.
        lr: the learning rate.
        betas: Adam's.
        eps: added to the root that a step is divided by.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    self._move_rows(parameter, _coalesced(gradient), state, group)
                else:
                    self._move(parameter, gradient, state, group)
        return loss

    def _move(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if not state:
            state["steps"] = parameter.new_zeros(())
            state["first"], state["second"] = parameter.new_zeros((2, *parameter.shape)).unbind()
        beta_1, beta_2 = group["betas"]
        state["steps"] += 1
        first = state["first"].lerp_(gradient, 1 - beta_1)
        second = state["second"].lerp_(gradient.square(), 1 - beta_2)
        size = (second / (1 - beta_2 ** state["steps"])).sqrt_().add_(group["eps"])
        parameter.sub_(first / size * (group["lr"] / (1 - beta_1 ** state["steps"])))

    def _move_rows(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if not state:
            state["squares"] = parameter.new_zeros(len(parameter), 1)
        ids_U, rows_UD = gradient._indices()[0], gradient._values()
        squares_U1 = torch.linalg.vector_norm(rows_UD, dim=1, keepdim=True).square_()
        squares_U1 = squares_U1.div_(rows_UD.shape[1]).add_(state["squares"][ids_U])
        state["squares"].index_copy_(0, ids_U, squares_U1)
        # The gradient is used up: zero_grad comes next, and a copy would cost a pass over memory.
        rows_UD.mul_(-group["lr"] / (squares_U1.sqrt_().add_(group["eps"])))
        parameter.index_add_(0, ids_U, rows_UD)
