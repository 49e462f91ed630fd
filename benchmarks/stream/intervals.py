"""How far a mean difference would move, were other documents drawn: a bootstrap within domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLES = 2000


def interval(domains: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a difference a token, mean over domains.

    Each domain's documents are drawn anew with replacement, paired: both methods read the same.

    Args:
        domains: of each, the documents' differences in nats and their tokens.

    Example: where every document differs by as much a token, so does every draw.
        >>> interval([(np.array([2.0, 4.0]), np.array([10, 20]))])
        (0.2, 0.2)
    """
    draw = np.random.default_rng(0)
    means = np.zeros(SAMPLES)
    for nats, tokens in domains:
        chosen = draw.integers(len(nats), size=(SAMPLES, len(nats)))
        means += nats[chosen].sum(1) / tokens[chosen].sum(1) / len(domains)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
