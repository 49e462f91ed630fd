"""Continual learning's figures, each defined once, with its sign.

R[i][j] is the score on domain j after learning domain i, higher is better; row 0 is the base, so R
has T + 1 rows and T columns. For a loss, pass its negative.
"""

from __future__ import annotations

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def average_score(matrix: Matrix) -> float:
    """Return ACC, the mean score on all domains at the end.

    Example:
        >>> average_score([[0.0, 0.0], [0.9, 0.0], [0.7, 0.8]])
        0.75
    """
    return sum(matrix[-1]) / len(matrix[0])


def learning_accuracy(matrix: Matrix, newest: float | None = None) -> float:
    """Return the mean score on each domain right after it was learned.

    Args:
        newest: the newest domain's score right after it was learned, where the last row was
            measured later; default: that row's.

    Example:
        >>> round(learning_accuracy([[0.0, 0.0], [0.9, 0.0], [0.7, 0.8]]), 3)
        0.85
    """
    return sum(_right_after(matrix, newest)) / len(matrix[0])


def _right_after(matrix: Matrix, newest: float | None) -> list[float]:
    """Return each domain's score right after it was learned."""
    *earlier, last = [matrix[j + 1][j] for j in range(len(matrix[0]))]
    return [*earlier, last if newest is None else newest]


def backward_transfer(matrix: Matrix) -> float:
    """Return BWT: how earlier domains changed until the end; negative = forgot.

    Source: Lopez-Paz & Ranzato 2017, over T - 1 domains as in their text (their code divides by T).
    0 for a single domain.

    Example: the first domain fell from 0.9 to 0.7.
        >>> round(backward_transfer([[0.0, 0.0], [0.9, 0.0], [0.7, 0.8]]), 3)
        -0.2
    """
    changes = [matrix[-1][j] - matrix[j + 1][j] for j in range(len(matrix[0]) - 1)]
    return sum(changes) / len(changes) if changes else 0.0


def forward_transfer(matrix: Matrix) -> float:
    """Return FWT: what earlier domains did for a later one not yet learned; positive = helped.

    Source: Lopez-Paz & Ranzato 2017. 0 for a single domain.

    Example: learning the first domain raised the second from 0.1 to 0.2.
        >>> forward_transfer([[0.0, 0.1], [0.9, 0.2], [0.7, 0.8]])
        0.1
    """
    gains = [matrix[j][j] - matrix[0][j] for j in range(1, len(matrix[0]))]
    return sum(gains) / len(gains) if gains else 0.0


def forgetting(matrix: Matrix) -> float:
    """Return how far earlier domains fell from their best; positive = forgot.

    Source: Chaudhry et al. 2018. The opposite sign of BWT. 0 for a single domain.

    Example:
        >>> round(forgetting([[0.0, 0.0], [0.9, 0.0], [0.7, 0.8]]), 3)
        0.2
    """
    num_domains = len(matrix[0])
    falls = [
        max(matrix[i][j] for i in range(j + 1, num_domains)) - matrix[-1][j]
        for j in range(num_domains - 1)
    ]
    return sum(falls) / len(falls) if falls else 0.0


def retention(matrix: Matrix, newest: float | None = None) -> float | None:
    """Return the share of what was gained right after learning that is left at the end; 1 = all.

    Gains are over the base, added over all domains. None where nothing was gained: there is no
    share of a loss. `newest` is as for `learning_accuracy`.

    Example: of gains 0.9 and 0.8, 0.7 and 0.8 are left.
        >>> round(retention([[0.0, 0.0], [0.9, 0.0], [0.7, 0.8]]), 3)
        0.882
        >>> retention([[0.0, 0.0], [-0.5, 0.0], [-0.9, -0.2]]) is None
        True
    """
    learned = sum(_right_after(matrix, newest)) - sum(matrix[0])
    left = sum(matrix[-1][j] - matrix[0][j] for j in range(len(matrix[0])))
    return left / learned if learned > 0 else None


def efficiency(base: float, oracle: float, routed: float) -> float | None:
    """Return the share of the oracle routing's gain that routing keeps; losses in, 1 = all of it.

    None where the pool gains nothing: a mixture that is as bad would count as perfect.

    Example:
        >>> efficiency(base=4.0, oracle=3.0, routed=3.25)
        0.75
        >>> efficiency(base=4.0, oracle=4.5, routed=4.5) is None
        True
    """
    gain = base - oracle
    return (base - routed) / gain if gain > 0 else None
