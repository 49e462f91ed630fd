"""Random evidence of a few texts for a few pools, and signatures that some of it reaches."""

from __future__ import annotations

import torch

from peer_cl import Signature
from peer_cl.shortlist import TokenEvidence

CENTROIDS = torch.zeros(1, 1)


def random_evidence(seed, num_rows=4, num_tokens=30, num_pools=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_rows, num_tokens, num_pools)
    return TokenEvidence(
        torch.randn(shape, generator=generator),
        torch.rand(shape, generator=generator),
        torch.rand(shape[:2], generator=generator) < 0.7,
    )


def random_signatures(seed, num_pools=3):
    generator = torch.Generator().manual_seed(seed)
    limits = torch.rand(num_pools, 5, generator=generator, dtype=torch.float64).tolist()
    return [
        Signature(CENTROIDS, low / 2, high / 2, slack=slack, least_fit=fit / 2, fit_slack=more)
        for low, high, slack, fit, more in limits
    ]


def only(evidence, pools):
    """The same texts in a store that holds only some of the pools."""
    return TokenEvidence(
        evidence.log_odds_BTP[..., pools].clone(),
        evidence.distance_BTP[..., pools].clone(),
        evidence.counted_BT,
    )
