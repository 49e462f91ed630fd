"""One reading: its log probabilities, its posterior, and its logits are views of the same."""

import pytest
import torch
from tiny_models import (
    MAIN,
    SPECIAL,
    give_keys,
    make_base,
    make_ids,
    make_model,
    same_bits,
    text_of,
)

from peer_cl.errors import InputError, ShapeError, StateError, UnknownError
from peer_cl.mixture import mix_logits
from peer_cl.read import read, token_log_probs


def left_padded(ids):
    """A copy of a batch whose first two rows are shorter, and their mask."""
    ids, mask = ids.clone(), torch.ones_like(ids)
    mask[0, :4] = mask[1, :11] = 0
    ids[mask == 0] = SPECIAL[0]
    return ids, mask


@pytest.mark.parametrize("architecture", MAIN)
def test_log_probabilities_are_those_of_the_base_and_of_each_branch(architecture):
    model, ids = make_model(architecture), make_ids()
    reading = read(model, ids, routing="all")
    assert reading.domains == ("a", "b")
    bare = torch.log_softmax(model.base(ids).logits[:, :-1].double(), -1)
    expected = bare.gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(reading.log_probs_QBT[0, :, 1:], expected, atol=1e-5, rtol=0)
    for number, name in enumerate("ab", 1):
        with model.branch(name):
            logits = model.base(ids).logits
        assert same_bits(reading.log_probs_QBT[number], token_log_probs(logits, ids))
    with pytest.raises(StateError, match="keep_logits=True"):
        _ = reading.logits_BTV


@pytest.mark.parametrize("routing", ["all", "causal", "prompt"])
def test_logits_give_the_log_probabilities_of_the_mixture(routing):
    model = make_model(domains="abc")
    give_keys(model)
    ids = torch.cat([text_of(None, 4, 10, 7), text_of("a", 4, 20, 8)], 1)
    reading = read(model, ids, routing=routing, keep_logits=True)
    found = token_log_probs(reading.logits_BTV, ids)
    torch.testing.assert_close(found, reading.mixture_log_probs_BT, atol=1e-5, rtol=0)
    assert reading.entries_PBU.any()
    branches = [reading.branch_logits[name] for name in reading.domains]
    mixed = mix_logits(reading.base_logits_BTV, branches, reading.posterior_QBU.log())
    torch.testing.assert_close(reading.logits_BTV.softmax(-1), mixed.softmax(-1))
    torch.testing.assert_close(reading.posterior_QBU.sum(0), torch.ones(4, 31).double())


def test_before_a_domain_enters_and_before_masked_tokens_the_bases_logits_stand():
    model = make_model()
    give_keys(model)
    ids = torch.cat([text_of(None, 4, 10, 7), text_of("a", 4, 20, 8)], 1)
    mask = torch.ones_like(ids)
    mask[:, 25:28] = 0
    reading = read(model, ids, evidence_mask=mask, keep_logits=True)
    bare = model.base(ids).logits
    for row, border in enumerate(reading.entries_PBU[0].argmax(-1).tolist()):
        assert 10 < border < 25
        assert same_bits(reading.logits_BTV[row, : border - 1], bare[row, : border - 1])
        assert not torch.equal(reading.logits_BTV[row, border:24], bare[row, border:24])
        assert same_bits(reading.logits_BTV[row, 24:27], bare[row, 24:27])
    assert not reading.evidence_BT[:, 25:28].any()
    assert same_bits(reading.posterior_QBU[..., 25], reading.posterior_QBU[..., 28])


def test_a_branch_reads_only_the_rows_that_find_it():
    model = make_model()
    give_keys(model)
    ids = torch.cat([text_of("a", 2, 20, 8), text_of("b", 1, 20, 9), text_of(None, 1, 20, 4)])
    reading = read(model, ids, routing="prompt", keep_logits=True)
    assert reading.domains == ("a", "b")
    rows = {name: found[0].tolist() for name, found in reading.branch_logits.items()}
    assert rows == {"a": [0, 1], "b": [2]}
    assert reading.log_probs_QBT[1, 2:].eq(0).all()
    assert same_bits(reading.logits_BTV[3], reading.base_logits_BTV[3].float())


@pytest.mark.parametrize("architecture", [*MAIN, "bloom"])
@pytest.mark.parametrize("routing", ["all", "prompt"])
def test_padding_changes_nothing(architecture, routing):
    """Each row of a padded batch is scored as it is alone, on either side."""
    model = make_model(architecture, "abc")
    give_keys(model)
    text = text_of("a", 3, 20, 8)
    ids, mask = left_padded(text)
    left = read(model, ids, mask, routing=routing)
    order = mask.sort(dim=1, descending=True, stable=True).indices
    right = read(model, ids.gather(1, order), mask.gather(1, order), routing=routing)
    for row, start in enumerate([4, 11, 0]):
        alone = read(model, ids[row : row + 1, start:], routing=routing)
        shown = {"atol": 2e-4, "rtol": 0}
        torch.testing.assert_close(left.mixture_BT[row, start:], alone.mixture_BT[0], **shown)
        torch.testing.assert_close(
            right.mixture_BT[row, : 20 - start], alone.mixture_BT[0], **shown
        )
        assert left.evidence_BT[row].sum() == 20 - start - 1
        assert alone.domains == (("a", "b", "c") if routing == "all" else ("a",))


def test_oracle_routing_names_the_active_domains():
    model, ids = make_model(domains="abc"), make_ids()
    some = model.score(ids, domains=["c", "a"])
    assert some.domains == ("a", "c")
    assert same_bits(
        model.score(ids, domains="b").log_probs_QBT[1], model.score(ids).log_probs_QBT[2]
    )
    assert same_bits(model(ids, domains=[]).logits, make_base()(ids).logits)
    with pytest.raises(UnknownError, match="no pool 'd'; known: a, b, c"):
        model.score(ids, domains="d")
    model.set_pool("a")
    with pytest.raises(StateError, match="pool 'b' is not active: set_pool left a"):
        model.score(ids, domains="b")


def test_what_follows_a_prompt_moves_no_decision_but_its_own_weights():
    model = make_model()
    give_keys(model)
    text = torch.cat([text_of("a", 2, 12, 8), text_of("b", 2, 12, 9)], 1)
    lengths = torch.tensor([12, 12])
    reading = read(model, text, routing="prompt", prompt_lengths=lengths)
    assert reading.domains == ("a",)
    prompt = read(model, text[:, :12], routing="prompt")
    torch.testing.assert_close(reading.posterior_QBU[..., 12], prompt.posterior_QBU[..., -1])


def test_a_text_that_cannot_be_read_is_refused():
    model = make_model(domains="a")
    with pytest.raises(ShapeError, match=r"shape \(4,\), not \(B, T\)"):
        model.score(torch.arange(4))
    with pytest.raises(ShapeError, match=r"evidence_mask has shape \(3, 4\), the ids \(3, 20\)"):
        model.score(make_ids(), evidence_mask=torch.ones(3, 4))
    with pytest.raises(InputError, match="2305 tokens, the base's context is 2304"):
        model.score(torch.full((1, 2305), 5))
    with pytest.raises(InputError, match="one of causal, prompt, all, not 'context'"):
        model.score(make_ids(), routing="context")
    give_keys(model)
    model.background = None
    with pytest.raises(StateError, match="no background statistics"):
        model(make_ids())
