"""A document's loss that is no number is told as the worst of all."""

import math

import torch

from pipelines.mixture_scores import mixture_loss
from pipelines.token_scores import Item


class Book:
    """Scores in which the base itself overflowed on one of two documents."""

    def log_probs(self, _, item):
        return torch.tensor([-1.0, math.nan if item.ids[0] == 7 else -2.0], dtype=torch.float64)

    def stack(self, _, item):
        return self.log_probs("base", item)[None, None]


def test_a_document_whose_loss_is_no_number_is_the_worst():
    """`max` passed over it, and the evaluation said that every document kept to the bound."""
    items = [Item((5, 6, 8)), Item((7, 6, 8)), Item((9, 6, 8))]
    assert mixture_loss(Book(), [], items[:1], 0.1).max_added_nats == 0
    assert mixture_loss(Book(), [], items, 0.1).max_added_nats == math.inf
