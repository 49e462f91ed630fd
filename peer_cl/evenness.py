"""How evenly a pool's rows are used; no torch, so that pages without a model can ask.

Shape suffixes: N experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def expert_usage(weights_N: Sequence[float]) -> float:
    """Return the share of rows that are used at all.

    Source: He 2024, arXiv 2407.04153: the share of z_i that are not 0, z_i the router's weight
    summed over an evaluation set.

    Example:
        >>> expert_usage([3.0, 0.0, 1.0, 0.0])
        0.5
    """
    return sum(weight > 0 for weight in weights_N) / max(1, len(weights_N))


def unevenness(weights_N: Sequence[float]) -> float:
    """Return how far use is from even, in nats: 0 is even, log N is one row alone.

    Source: He 2024, arXiv 2407.04153: log N + sum z log z, the Kullback-Leibler divergence of the
    normalised use z from the uniform distribution.

    Example:
        >>> unevenness([1.0, 1.0, 1.0, 1.0])
        0.0
        >>> round(unevenness([5.0, 0.0, 0.0, 0.0]), 4)
        1.3863
    """
    total = math.fsum(weights_N)
    if total <= 0:
        return 0.0
    shares_N = (weight / total for weight in weights_N)
    entropy = math.fsum(-z * math.log(z) for z in shares_N if z > 0)
    return max(0.0, math.log(len(weights_N)) - entropy)
