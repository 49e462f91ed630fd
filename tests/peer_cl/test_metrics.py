"""The figures of a stream's matrix with more than two domains, worked out by hand."""

import pytest

from peer_cl.metrics import (
    average_score,
    backward_transfer,
    forgetting,
    forward_transfer,
    learning_accuracy,
    retention,
)

MATRIX = [[0.0, 0.1, 0.2], [0.9, 0.8, 0.1], [1.0, 0.7, 0.5], [0.6, 0.75, 0.8]]
"""The first domain gained with the second; the second was at its best before it was learned."""


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (average_score, (0.6 + 0.75 + 0.8) / 3),
        (learning_accuracy, (0.9 + 0.7 + 0.8) / 3),
        (backward_transfer, (-0.3 + 0.05) / 2),
        (forward_transfer, (0.7 + 0.3) / 2),
        (forgetting, (0.4 - 0.05) / 2),
        (retention, (0.6 + 0.65 + 0.6) / (0.9 + 0.6 + 0.6)),
        (lambda matrix: retention(matrix, 1.2), (0.6 + 0.65 + 0.6) / (0.9 + 0.6 + 1.0)),
    ],
)
def test_each_domain_is_compared_with_its_own_row(figure, expected):
    """The last takes the newest domain's score from before it was switched off."""
    assert figure(MATRIX) == pytest.approx(expected)
