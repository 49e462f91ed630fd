"""No scored text loses more than -log(1 - b) nats over the base, whatever the pools learned."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from bits import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import VOCABULARY, teach

from peer_cl.errors import InputError, ShapeError
from peer_cl.mixture import (
    enter_at,
    held_weights,
    log_masses,
    log_weights,
    mixture_log_probs,
    share,
    worst_added_nats,
)

ROUNDING = 1e-9
"""What fp64 sums over a document may be off by, in nats."""


# --- the arithmetic, against the definition in exact fractions --------------------------------


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
    shares = st.sampled_from([0, 0, 1, 3]).map(lambda n: Fraction(n, 64))
    return probs, counts, grid(shares, num_pools, num_tokens + 1)


def tensors(probs, counts, entries):
    """One document as the functions take it: B = 1."""
    borders = len(counts) + 1
    return (
        torch.tensor(probs, dtype=torch.float64).log().view(len(probs), 1, borders - 1),
        torch.tensor([counts], dtype=torch.bool).view(1, borders - 1),
        torch.tensor(entries, dtype=torch.float64).view(len(entries), 1, borders),
    )


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(documents())
def test_the_budget_bounds_every_document_exactly(document):
    """In fractions, where nothing rounds: mixture >= base * (1 - what entered)."""
    probs, counts, entries = document
    _, mixture = sequential(*document)
    base = math.prod(p for p, counted in zip(probs[0], counts, strict=True) if counted)
    mixed = math.prod(p for p, counted in zip(mixture, counts, strict=True) if counted)
    assert mixed >= base * (1 - sum(map(sum, entries), Fraction(0)))


@settings(max_examples=60, deadline=None)
@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_pools_does_not_matter(document, random):
    steps, counts, entries = tensors(*document)
    order = list(range(len(entries)))
    random.shuffle(order)
    moved_steps = torch.cat([steps[:1], steps[1:][order]])
    masses = log_masses(steps, counts, entries)
    moved = log_masses(moved_steps, counts, entries[order])
    assert same_bits(moved[1:], masses[1:][order])
    torch.testing.assert_close(moved[0], masses[0], atol=1e-13, rtol=0)
    torch.testing.assert_close(
        mixture_log_probs(moved_steps, counts, entries[order]),
        mixture_log_probs(steps, counts, entries),
        atol=1e-12,
        rtol=0,
    )


@settings(max_examples=60, deadline=None)
@given(documents())
def test_a_pools_mass_is_bit_equal_with_and_without_the_others(document):
    steps, counts, entries = tensors(*document)
    together = log_masses(steps, counts, entries)
    for pool in range(len(entries)):
        alone = log_masses(steps[[0, pool + 1]], counts, entries[[pool]])
        assert same_bits(alone[1], together[pool + 1])


@settings(max_examples=60, deadline=None)
@given(documents())
def test_tokens_after_a_border_change_nothing_before_it(document):
    steps, counts, entries = tensors(*document)
    masses, mixed = log_masses(steps, counts, entries), mixture_log_probs(steps, counts, entries)
    for border in range(counts.shape[1]):
        later_steps, later_entries, later_counts = steps.clone(), entries.clone(), counts.clone()
        later_steps[..., border:] -= 3.0
        later_counts[..., border:] ^= True
        later_entries[..., border + 1 :] = 0.0
        changed = log_masses(later_steps, later_counts, later_entries)
        assert same_bits(changed[..., : border + 1], masses[..., : border + 1])
        changed = mixture_log_probs(later_steps, later_counts, later_entries)
        assert same_bits(changed[..., :border], mixed[..., :border])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_pools=st.integers(1, 8),
    steepness=st.sampled_from([0.1, 5.0, 400.0]),
    budget=st.floats(0.001, 0.9),
)
def test_the_bound_holds_for_extreme_evidence_and_instalments(seed, num_pools, steepness, budget):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    steps = -steepness * uniform(num_pools + 1, 4, 60)
    counts = uniform(4, 60) < 0.8
    # Every pool enters in instalments anywhere; together they use up the budget.
    entries = uniform(num_pools, 4, 61) * (uniform(num_pools, 4, 61) < 0.1)
    entries = budget * entries / entries.sum((0, 2), keepdim=True).clamp_min(1e-300)
    mixed = mixture_log_probs(steps, counts, entries)
    added = torch.where(counts, steps[0] - mixed, 0.0).sum(-1)
    assert added.max() <= worst_added_nats(budget) + ROUNDING
    weights = log_weights(log_masses(steps, counts, entries)).exp()
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


def test_on_its_own_text_a_pool_costs_at_most_its_share():
    generator = torch.Generator().manual_seed(0)
    steps = -5 * torch.rand(3, 6, 40, generator=generator, dtype=torch.float64)
    asked_at = torch.tensor([[0, 1, 5, 20, 39, -1], [0, 0, 0, -1, 3, 7]])
    counts = torch.ones(6, 40, dtype=torch.bool)
    total = mixture_log_probs(steps, counts, enter_at(0.01, asked_at, 40)).sum(-1)
    for pool, borders in enumerate(asked_at.tolist(), 1):
        for row, border in enumerate(borders):
            if border >= 0:
                alone = steps[0, row, :border].sum() + steps[pool, row, border:].sum()
                assert total[row] >= alone + math.log(0.01) - ROUNDING


def test_instalments_at_one_border_equal_their_sum_and_a_split_changes_the_rest():
    generator = torch.Generator().manual_seed(1)
    steps = -torch.rand(2, 1, 9, generator=generator, dtype=torch.float64)
    counts = torch.ones(1, 9, dtype=torch.bool)
    whole, split = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10)
    whole[..., 2] = 0.3
    split[..., 2], split[..., 6] = 0.1, 0.2
    whole_masses, split_masses = (log_masses(steps, counts, e) for e in (whole, split))
    assert not torch.allclose(whole_masses[1, 0, 6:], split_masses[1, 0, 6:])
    torch.testing.assert_close(whole_masses[0, 0, 6:], split_masses[0, 0, 6:])
    first = log_masses(steps, counts, torch.where(torch.arange(10) == 2, split, 0.0))
    second = log_masses(steps, counts, torch.where(torch.arange(10) == 6, split, 0.0))
    both = torch.logaddexp(first[1], second[1])
    torch.testing.assert_close(split_masses[1], both, atol=1e-12, rtol=0)


def test_where_no_pool_has_entered_the_bases_bits_stand():
    steps = -torch.rand(3, 2, 12, dtype=torch.float64)
    counts = torch.rand(2, 12) < 0.7
    entries = enter_at(0.1, torch.tensor([[5, -1], [9, -1]]), 12)
    mixed = mixture_log_probs(steps, counts, entries)
    assert same_bits(mixed[0, :5], steps[0, 0, :5])
    assert same_bits(mixed[1], steps[0, 1])
    assert same_bits(mixed[~counts], steps[0][~counts])
    assert not torch.equal(mixed[0, 5:][counts[0, 5:]], steps[0, 0, 5:][counts[0, 5:]])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-40, 0), min_size=1, max_size=9),
    st.floats(0.001, 0.4),
)
def test_held_weights_add_up_drop_the_small_and_let_the_heavy_run_alone(masses, budget):
    weights = log_weights(torch.tensor(masses, dtype=torch.float64)[:, None]).exp()[:, 0]
    held = held_weights(torch.tensor(masses)[:, None], budget)[:, 0]
    top, small = int(weights.argmax()), max(0.01, 2 * budget)
    assert held.sum().item() == pytest.approx(1.0)
    assert held[top] > 0
    if weights[top] > 0.99 + 1e-5:
        assert held[top] == 1.0
    for weight, kept in zip(weights.tolist(), held.tolist(), strict=True):
        if kept == 0.0:
            assert weight < small + 1e-5 or weights[top] > 0.99 - 1e-5
        else:
            assert kept >= weight - 1e-5
            assert weight > small - 1e-5 or weight > weights[top] - 1e-5


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, math.nan])
def test_a_budget_that_is_no_share_is_refused(budget):
    with pytest.raises(InputError, match="between 0 and 1"):
        share(budget, 4)


def test_a_capacity_below_one_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="at least 1, not 0"):
        share(0.02, 0)
    with pytest.raises(ShapeError, match=r"entries have shape \(1, 1, 3\), not \(1, 1, 4\)"):
        log_masses(torch.zeros(2, 1, 3), torch.ones(1, 3).bool(), torch.zeros(1, 1, 3))
    with pytest.raises(ShapeError, match=r"evidence has shape \(1, 2\)"):
        log_masses(torch.zeros(2, 1, 3), torch.ones(1, 2).bool(), torch.zeros(1, 1, 4))


@pytest.mark.parametrize("capacity", [1.5, 2.0, True, "4", None])
def test_a_capacity_is_a_whole_number(make_model, capacity):
    """Of 1.5 two pools entered, and a document lost more than the bound."""
    for refused in (lambda: share(0.5, capacity), lambda: make_model(capacity=capacity)):
        with pytest.raises(InputError, match=f"capacity must be a whole number, not {capacity!r}"):
            refused()


def test_a_budget_is_a_number(make_model):
    with pytest.raises(InputError, match=r"budget must lie between 0 and 1, not '0\.02'"):
        make_model(budget="0.02")
    with pytest.raises(InputError, match="budget must lie between 0 and 1, not nan"):
        share(math.nan, 4)


# --- pools whose branches overflow --------------------------------------------------------------


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_pool_that_overflows_is_left_out_from_there_on(broken):
    steps = -5 * torch.rand(3, 2, 9, dtype=torch.float64, generator=torch.manual_seed(0))
    counts, entries = torch.ones(2, 9, dtype=torch.bool), enter_at(0.1, torch.zeros(2, 2).long(), 9)
    whole = mixture_log_probs(steps, counts, entries)
    steps[2, 0, 4] = broken
    mixed = mixture_log_probs(steps, counts, entries)
    assert same_bits(mixed[1], whole[1])
    assert same_bits(mixed[:, :4], whole[:, :4])
    masses = log_masses(steps, counts, entries)
    assert torch.isfinite(mixed).all()
    assert not log_weights(masses).exp().isnan().any()
    assert (masses[2, 0, 5:] == -math.inf).all()
    assert torch.isfinite(masses[:2]).all()
    added = (steps[0] - mixed).sum(-1)
    assert added.max() <= worst_added_nats(0.2) + ROUNDING


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_pool_that_overflows_at_a_token_that_does_not_count_stays(broken):
    steps = -5 * torch.rand(3, 2, 9, dtype=torch.float64, generator=torch.manual_seed(0))
    counts, entries = torch.ones(2, 9, dtype=torch.bool), enter_at(0.1, torch.zeros(2, 2).long(), 9)
    counts[0, 4] = False
    whole = mixture_log_probs(steps, counts, entries)
    steps[2, 0, 4] = broken
    assert same_bits(mixture_log_probs(steps, counts, entries), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_pool_of_huge_rows_costs_no_more_than_the_budget(make_model, dtype):
    model = make_model("llama", budget=0.02)
    teach(model, "a", seed=1, scale=1e30)
    model.to(dtype)
    scores = model.score(random_tokens(4, 40))
    assert not torch.isfinite(scores.log_probs_QBT[1]).all()
    check(model, scores)
    logits = model(random_tokens(4, 40), ask="all").logits
    assert not logits.isnan().any()


# --- the theorem, on tiny models whose pools say something quite else ----------------------------


def loud_model(make_model, architecture, num_pools, **options):
    """A model of sharp distributions and pools that contradict it."""
    names = tuple("abcdefgh"[:num_pools])
    model = make_model(architecture, pools=names, **{"budget": 0.02, **options})
    inner = model.base.base_model
    norm = inner.norm if hasattr(inner, "norm") else inner.ln_f
    norm.weight.data += 19.0
    return model


def written_by(model, starts, name, num_tokens):
    """Let a pool alone continue some texts."""
    return model.generate(
        starts,
        domains=[name],
        force=True,
        do_sample=True,
        top_k=0,
        max_new_tokens=num_tokens,
        suppress_tokens=[0, 1],
    )


def random_tokens(num_rows, num_tokens, seed=3):
    """Token strings of everything, special tokens included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (num_rows, num_tokens), generator=generator)


def check(model, scores):
    worst = worst_added_nats(model.budget)
    assert torch.isfinite(scores.mixture_BT).all()
    assert scores.added_nats_B.max() <= worst + ROUNDING
    return scores.added_nats_B.max().item() / worst


@pytest.mark.parametrize("num_pools", [1, 2, 8])
def test_random_token_strings_lose_at_most_the_budget(architecture, make_model, num_pools):
    model = loud_model(make_model, architecture, num_pools, capacity=num_pools)
    for num_tokens in (1, 2, 5, 40):
        check(model, model.score(random_tokens(24, num_tokens)))


@pytest.mark.parametrize("num_pools", [1, 2, 8])
def test_text_that_the_base_wrote_meets_the_bound_to_the_digit(architecture, make_model, num_pools):
    """All that the pools were given is lost there: a smaller bound would be broken."""
    torch.manual_seed(0)
    model = loud_model(make_model, architecture, num_pools, capacity=num_pools)
    with model.disable_pool():
        text = model.generate(
            random_tokens(8, 2).clamp_min(2), do_sample=True, top_k=0, max_new_tokens=40
        )
    assert check(model, model.score(text)) > 0.999


@pytest.mark.parametrize("num_pools", [2, 8])
def test_text_that_one_pool_wrote_and_then_another(architecture, make_model, num_pools):
    torch.manual_seed(0)
    model = loud_model(make_model, architecture, num_pools)
    first = written_by(model, random_tokens(8, 2).clamp_min(2), "a", 24)
    scores = model.score(written_by(model, first, "b", 24))
    check(model, scores)
    weights = scores.weights_QBU[:, :, first.shape[1]]
    assert (weights[1] > 0.999).sum() >= 4, "the first pool takes nearly everything"
    # The reverse of the theorem: its own text is where a pool is worth its share many times.
    assert scores.added_nats_B.min() < -10


def test_a_second_pool_that_enters_after_the_first_took_nearly_everything(architecture, make_model):
    torch.manual_seed(0)
    model = loud_model(make_model, architecture, 2, budget=0.5, capacity=2)
    first = written_by(model, random_tokens(8, 2).clamp_min(2), "a", 24)
    for after in ("b", None):  # text of the second pool, and text that neither wrote
        text = torch.cat([first, random_tokens(8, 24, seed=4)], 1)
        if after:
            text = written_by(model, first, after, 24)
        asked_at = torch.tensor([[0] * 8, [first.shape[1]] * 8])
        scores = replace(
            model.score(text), entries_PBU=enter_at(model.share, asked_at, text.shape[1])
        )
        before = scores.weights_QBU[1, :, first.shape[1] - 1]
        assert (before > 0.999).sum() >= 4
        check(model, scores)


@pytest.mark.parametrize("num_pools", [1, 8])
def test_entries_in_instalments_lose_at_most_the_budget(architecture, make_model, num_pools):
    torch.manual_seed(0)
    model = loud_model(make_model, architecture, num_pools, capacity=num_pools, budget=0.1)
    text = torch.cat(
        [random_tokens(8, 6), written_by(model, random_tokens(8, 2).clamp_min(2), "a", 20)], 1
    )
    scores = model.score(text)
    generator = torch.Generator().manual_seed(6)
    parts = torch.rand(scores.entries_PBU.shape, generator=generator, dtype=torch.float64)
    parts *= torch.rand(parts.shape, generator=generator) < 0.2
    parts[..., 0] += 0.01
    entries = model.share * parts / parts.sum(-1, keepdim=True)
    check(model, replace(scores, entries_PBU=entries))


def test_masked_tokens_in_the_middle_are_the_bases_and_move_no_weight(architecture, make_model):
    torch.manual_seed(0)
    model = loud_model(make_model, architecture, 3)
    text = written_by(model, random_tokens(6, 2).clamp_min(2), "b", 30)
    mask = torch.ones_like(text)
    mask[:, 12:20] = 0
    mask[2] = torch.arange(text.shape[1]) % 3 > 0
    scores = model.score(text, evidence_mask=mask)
    check(model, scores)
    hidden = mask == 0
    assert same_bits(scores.evidence_BT[:, 1:], mask[:, 1:].bool())
    assert scores.mixture_BT[hidden].eq(0).all()
    assert scores.base_BT[hidden].eq(0).all()
    for column in range(12, 20):
        before, after = scores.weights_QBU[:, :2, column], scores.weights_QBU[:, :2, column + 1]
        assert same_bits(before, after)
    assert not torch.equal(scores.weights_QBU[:, :2, 11], scores.weights_QBU[:, :2, 12])


@pytest.mark.parametrize("num_pools", [1, 2, 8])
def test_2048_tokens_lose_at_most_the_budget(architecture, make_model, num_pools):
    model = loud_model(make_model, architecture, num_pools, capacity=num_pools)
    text = random_tokens(1, 2048)
    scores = model.score(text)
    assert scores.evidence_BT.sum() > 1900
    check(model, scores)
    # The same where every pool is wrong about all of it, and where one is right at last.
    steps = scores.log_probs_QBT.clone()
    steps[1:] = steps[0] - 0.5
    assert check(model, replace(scores, log_probs_QBT=steps)) > 0.9
    steps[1, :, 1024:] = -0.01
    scores = replace(scores, log_probs_QBT=steps)
    check(model, scores)
    assert scores.added_nats_B.item() < -1000


def test_pools_that_enter_by_signature_lose_at_most_the_budget(architecture, make_model):
    from signed import sign, text_of

    model = loud_model(make_model, architecture, 3, capacity=3)
    sign(model)
    text = torch.cat([text_of(None, 12, 10, 7), text_of("a", 12, 20, 8), text_of("b", 12, 9, 9)], 1)
    scores = model.score(text, ask="signature")
    check(model, scores)
    entered_at = scores.entries_PBU.argmax(-1)
    assert entered_at.max() > 10
    assert entered_at.unique().numel() > 3


def test_a_pool_that_says_what_the_base_says_costs_nothing(ids, make_model):
    model = make_model("llama", budget=0.5, capacity=2)
    for name in ("a", "b"):
        teach(model, name, seed=1, scale=0.0)
    assert model.score(ids).added_nats_B.abs().max() < 1e-12
