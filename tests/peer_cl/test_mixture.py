"""The mixture's arithmetic, against its definition in exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import same_bits

from peer_cl.mixture import (
    answer_bound_nats,
    enter_at,
    log_masses,
    mixture_log_probs,
    worst_added_nats,
)

ROUNDING = 1e-9
"""What fp64 sums over a document may be off by, in nats."""


def sequential(probs, counts, entries):
    """The definition, one token after the other: masses at every border, and the mixture."""
    base, pools, entered = Fraction(1), [Fraction(0)] * len(entries), Fraction(0)
    masses, mixture = [], []
    for border in range(len(counts) + 1):
        for number, row in enumerate(entries):
            moved = base * row[border] / (1 - entered)
            base, pools[number] = base - moved, pools[number] + moved
            entered += row[border]
        masses.append([base, *pools])
        if border == len(counts):
            break
        step = [row[border] for row in probs]
        if counts[border]:
            weighted = [mass * p for mass, p in zip([base, *pools], step, strict=True)]
            mixture.append(sum(weighted) / sum([base, *pools]))
            base, *pools = weighted
        else:
            mixture.append(step[0])
    return masses, mixture


@st.composite
def documents(draw):
    num_pools, num_tokens = draw(st.integers(0, 3)), draw(st.integers(0, 6))

    def grid(values, rows, columns):
        row = st.lists(values, min_size=columns, max_size=columns)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    probs = grid(st.integers(1, 16).map(lambda n: Fraction(n, 16)), num_pools + 1, num_tokens)
    counts = draw(st.lists(st.booleans(), min_size=num_tokens, max_size=num_tokens))
    priors = st.sampled_from([0, 0, 1, 3]).map(lambda n: Fraction(n, 64))
    return probs, counts, grid(priors, num_pools, num_tokens + 1)


def tensors(probs, counts, entries):
    """One document as the functions take it: B = 1."""
    borders = len(counts) + 1
    return (
        torch.tensor(probs, dtype=torch.float64).log().view(len(probs), 1, borders - 1),
        torch.tensor([counts], dtype=torch.bool).view(1, borders - 1),
        torch.tensor(entries, dtype=torch.float64).view(len(entries), 1, borders),
    )


@settings(max_examples=80, deadline=None)
@given(documents())
def test_masses_and_mixture_equal_the_definition_in_exact_fractions(document):
    masses, mixture = sequential(*document)
    steps, counts, entries = tensors(*document)
    found = log_masses(steps, counts, entries)[:, 0]
    for border, expected in enumerate(masses):
        for branch, mass in enumerate(expected):
            log_mass = math.log(mass) if mass else -math.inf
            assert found[branch, border].item() == pytest.approx(log_mass, abs=1e-11)
    mixed = mixture_log_probs(steps, counts, entries)[0].tolist()
    assert mixed == pytest.approx([math.log(p) for p in mixture], abs=1e-11)


@settings(max_examples=30, deadline=None)
@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_domains_does_not_matter_and_each_ones_mass_is_its_own(document, random):
    steps, counts, entries = tensors(*document)
    order = list(range(len(entries)))
    random.shuffle(order)
    moved_steps = torch.cat([steps[:1], steps[1:][order]])
    masses = log_masses(steps, counts, entries)
    moved = log_masses(moved_steps, counts, entries[order])
    assert same_bits(moved[1:], masses[1:][order])
    torch.testing.assert_close(moved[0], masses[0], atol=1e-13, rtol=0)
    for pool in range(len(entries)):
        alone = log_masses(steps[[0, pool + 1]], counts, entries[[pool]])
        assert same_bits(alone[1], masses[pool + 1])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), num_found=st.integers(1, 3), at=st.integers(0, 8))
def test_an_answer_costs_no_more_than_its_bound(seed, num_found, at):
    """Domains of which a prompt of `at` tokens asks for an item; the answer follows."""
    steps = -9 * torch.rand(num_found + 1, 1, 12, generator=torch.manual_seed(seed)).double()
    steps[0, :, at:] *= 0.1
    counts, border = torch.ones(1, 12, dtype=torch.bool), torch.full((num_found, 1), at)
    entries, odds = (enter_at(prior, border, 12) for prior in (0.1 / num_found, 1.0))
    mixed = mixture_log_probs(steps, counts, entries, odds)
    assert same_bits(mixed[:, :at], steps[0, :, :at])
    assert (steps[0] - mixed).sum() <= answer_bound_nats(0.1, num_found) + ROUNDING


@pytest.mark.parametrize("overflow", [math.nan, math.inf, -math.inf])
def test_a_branch_that_overflows_loses_its_mass_from_there_on(overflow):
    steps = -5 * torch.rand(3, 2, 9, dtype=torch.float64, generator=torch.manual_seed(0))
    counts, entries = torch.ones(2, 9, dtype=torch.bool), enter_at(0.1, torch.zeros(2, 2).long(), 9)
    counts[1, 4] = False
    whole = mixture_log_probs(steps, counts, entries)
    steps[2, :, 4] = overflow  # in the second row at a token that does not count
    mixed, masses = mixture_log_probs(steps, counts, entries), log_masses(steps, counts, entries)
    assert same_bits(mixed[1], whole[1])
    assert same_bits(mixed[:, :4], whole[:, :4])
    assert torch.isfinite(mixed).all()
    assert (masses[2, 0, 5:] == -math.inf).all()
    assert torch.isfinite(masses[:2]).all()
    assert (steps[0] - mixed).sum(-1).max() <= worst_added_nats(0.2) + ROUNDING
