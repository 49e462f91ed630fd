"""One reading: its log probabilities, its posterior, and its logits are views of the same."""

import pytest
import torch
from tiny_models import (
    MAIN,
    SPECIAL,
    SUBJECT,
    asking,
    give_items,
    give_keys,
    give_passages,
    make_base,
    make_ids,
    make_model,
    same_bits,
    text_of,
)

from peer_cl import read as read_module
from peer_cl.errors import InputError, ShapeError, StateError, UnknownError
from peer_cl.mixture import answer_bound_nats, mix_logits
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


# --- items --------------------------------------------------------------------------------------


def with_items(*prompts, **options):
    """A model whose pool a has an item for each prompt."""
    model = make_model(**options)
    give_keys(model)
    give_items(model, "a", *prompts or (asking(1),))
    return model


def test_a_prompt_that_asks_for_an_item_gives_its_domain_the_bases_own_weight():
    """And one that asks something else about its subject nothing."""
    model, ids = with_items(asking(3), asking(1)), torch.cat([asking(1), asking(2)])
    reading = read(model, ids, routing="prompt", keep_logits=True)
    (found,) = reading.items["a"]
    assert (reading.domains, found.row, found.item, found.at) == (("a",), 0, 1, 15)
    expected = torch.tensor([[1 - model.prior, 2], [1 + model.prior, 0]]).double() / 2
    torch.testing.assert_close(reading.posterior_QBU[..., -1], expected)
    assert reading.posterior_QBU[0, :, :-1].eq(1).all()
    assert reading.writers_B.tolist() == [1, 0]
    assert same_bits(reading.logits_BTV[1], reading.base_logits_BTV[1].float())
    assert same_bits(reading.logits_BTV[0, :-1], reading.base_logits_BTV[0, :-1].float())
    active = torch.tensor([[-1] * 9 + [1] * 7])
    with torch.no_grad(), model.branch("a", items_BT=active):
        own = model.base(ids[:1]).logits
    assert same_bits(reading.branch_logits["a"][1], own)
    with torch.no_grad(), model.branch("a"):
        assert not torch.allclose(model.base(ids[:1]).logits[:, 9:], own[:, 9:], atol=1e-3)


def test_where_no_item_is_asked_for_the_bases_bits_stand():
    model, ids = with_items(), asking(2)
    model.pool("a").key = None
    for routing in ("prompt", "causal"):
        reading = read(model, ids, routing=routing, keep_logits=True)
        assert reading.domains == ()
        assert same_bits(reading.logits_BTV, make_base()(ids).logits)


def test_of_a_prompt_a_named_domain_answers_with_its_nearest_item():
    model, ids = with_items(), asking(2)
    assert read(model, ids, routing="prompt").items == {"a": []}
    reading = read(model, ids, routing="prompt", domains="a")
    assert [one.item for one in reading.items["a"]] == [0]
    assert reading.odds_PBU[0, 0].tolist() == [0.0] * 16 + [1.0]


@pytest.mark.parametrize("routing", ["all", "causal", "prompt"])
def test_without_its_items_a_domain_is_read_as_if_it_had_none(routing):
    model, ids = with_items(), torch.cat([asking(1), text_of("a", 1, 16, 8)])
    assert read(model, ids, routing=routing).items["a"]
    reading = read(model, ids, routing=routing, with_items=False)
    model = make_model()
    give_keys(model)
    expected = read(model, ids, routing=routing)
    assert (reading.domains, reading.items) == (expected.domains, {})
    assert same_bits(reading.mixture_BT, expected.mixture_BT)


def test_an_answer_is_scored_behind_its_prompt():
    """What follows neither finds nor hides an item, and stays under its experts."""
    model, answer = with_items(), make_ids(1, 5)
    prompt, ids = read(model, asking(1), routing="prompt"), torch.cat([asking(1), answer], 1)
    options = {"routing": "prompt", "prompt_lengths": torch.tensor([16])}
    reading = read(model, ids, **options)
    assert reading.items["a"][0]._replace(score=0) == prompt.items["a"][0]._replace(score=0)
    torch.testing.assert_close(reading.posterior_QBU[..., 16], prompt.posterior_QBU[..., -1])
    active = torch.tensor([[-1] * 9 + [0] * 12])
    with torch.no_grad(), model.branch("a", items_BT=active):
        own = token_log_probs(model.base(ids).logits, ids)
    assert same_bits(reading.log_probs_QBT[1], own)
    assert reading.added_nats_B <= answer_bound_nats(model.budget)
    assert not read(model, torch.cat([answer, asking(2)], 1), **options).items["a"]


def test_in_a_text_an_item_enters_where_it_is_found_and_no_later_token_matters():
    model, ids = with_items(), torch.cat([asking(1), asking(2), asking(1)], 1)
    reading = read(model, ids, keep_logits=True)
    assert 15 in [one.at for one in reading.items["a"]]
    assert reading.odds_PBU is None
    first = reading.items["a"][0].at
    assert reading.entries_PBU[0, 0].nonzero().tolist() == [[first + 1]]
    assert same_bits(reading.logits_BTV[:, :first], reading.base_logits_BTV[:, :first].float())
    for length in (first + 1, 16, 17, 30):
        prefix = read(model, ids[:, :length], keep_logits=True)
        found = reading.logits_BTV[:, :length].softmax(-1)
        torch.testing.assert_close(prefix.logits_BTV.softmax(-1), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("routing", ["prompt", "causal"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_no_item(side, routing):
    """A name may begin a text, and what stands on padding asks for nothing."""
    short = asking(1)[:, 8:]
    model = with_items(short, asking(2))
    ids, mask = torch.cat([asking(2), asking(2)]), torch.ones(2, 16).long()
    text, pad = (slice(8, 16), slice(0, 8)) if side == "left" else (slice(0, 8), slice(8, 16))
    ids[0, text], ids[0, pad], mask[0, pad] = short[0], SPECIAL[0], 0
    batch, alone = read(model, ids, mask, routing=routing), read(model, short, routing=routing)
    assert batch.domains == alone.domains == ("a",)
    assert alone.items["a"]
    shift = text.start
    found = [(one.item, one.at - shift) for one in batch.items["a"] if one.row == 0]
    assert found == [(one.item, one.at) for one in alone.items["a"]]
    log_probs = batch.mixture_log_probs_BT[0, text][1:]
    torch.testing.assert_close(log_probs, alone.mixture_log_probs_BT[0, 1:], atol=2e-4, rtol=0)


# --- passages -----------------------------------------------------------------------------------

PASSAGES = tuple(make_ids(1, 60, seed) for seed in (21, 22))


def with_passages(*texts, domains="a"):
    """A model whose pool a learned these texts, and is found by nothing else."""
    model = make_model(domains=domains)
    give_keys(model)
    give_passages(model, "a", *texts or PASSAGES)
    for name in domains:
        model.pool(name).key = None
    return model


def test_a_passage_is_active_in_a_text_while_it_is_repeated_and_no_later_token_matters():
    model = with_passages()
    ids = torch.cat([make_ids(1, 20, 5), PASSAGES[1][:, 1:], make_ids(1, 40, 6)], 1)
    reading = read(model, ids, keep_logits=True)
    (found,) = reading.items["a"]
    assert (found.item, found.is_passage) == (1, True)
    assert 20 < found.at < 20 + 32 < 20 + 59 <= found.until < 20 + 59 + 32
    assert reading.odds_PBU is None
    assert reading.entries_PBU[0, 0].nonzero().tolist() == [[found.at + 1]]
    assert same_bits(reading.logits_BTV[:, : found.at], reading.base_logits_BTV[:, : found.at])
    active = torch.full_like(ids, -1)
    active[0, found.at : found.until] = 1
    with torch.no_grad(), model.branch("a", items_BT=active):
        own = token_log_probs(model.base(ids).logits, ids)
    assert same_bits(reading.log_probs_QBT[1], own)
    for length in (found.at, found.at + 1, 60, found.until, 100):
        prefix = read(model, ids[:, :length], keep_logits=True)
        assert bool(prefix.domains) == (length > found.at)
        expected = reading.logits_BTV[:, :length].softmax(-1)
        torch.testing.assert_close(prefix.logits_BTV.softmax(-1), expected, atol=1e-5, rtol=0)


def test_a_prompt_that_ends_in_a_passage_is_continued_by_it():
    model = with_passages()
    ids = torch.cat([make_ids(1, 20, 5), PASSAGES[0][:, 1:41]], 1)
    reading = read(model, ids, routing="prompt", keep_logits=True)
    (found,) = reading.items["a"]
    assert (found.item, found.at) == (0, 59)
    assert 20 < found.begin < 20 + 32
    expected = torch.tensor([1 - model.prior, 1 + model.prior]).double() / 2
    torch.testing.assert_close(reading.posterior_QBU[:, 0, -1], expected)
    assert reading.writers_B.tolist() == [1]
    active = torch.full_like(ids, -1)
    active[0, found.begin :] = 0
    with torch.no_grad(), model.branch("a", items_BT=active):
        own = model.base(ids).logits
    assert same_bits(reading.branch_logits["a"][1], own)


def test_a_prompt_that_begins_a_passage_is_continued_by_experts_active_from_its_first_token():
    (found,) = read(with_passages(), PASSAGES[0][:, :10], routing="prompt").items["a"]
    assert (found.item, found.begin, found.at) == (0, 0, 9)


@pytest.mark.parametrize("routing", ["causal", "prompt"])
def test_what_repeats_nothing_keeps_the_bases_bits(routing):
    """Other text, the same words in another order, and in a prompt what it repeated long before."""
    model = with_passages()
    is_prompt = routing == "prompt"
    texts = [make_ids(1, 60, 5), PASSAGES[0].flip(1), PASSAGES[0][:, : 4 if is_prompt else 10]]
    if is_prompt:
        texts.append(torch.cat([PASSAGES[0], make_ids(1, 40, 6)], 1))
    for ids in texts:
        reading = read(model, ids, routing=routing, keep_logits=True)
        assert reading.domains == ()
        assert same_bits(reading.logits_BTV, make_base()(ids).logits)


def asking_within():
    """A text that asks, up to its token 39, something about the subject."""
    ids = PASSAGES[0].clone()
    ids[0, 32:34] = torch.tensor(SUBJECT)
    return ids


def test_a_fact_that_is_asked_for_within_a_passage_is_active_there():
    """Items are numbered through: the passage is 0, the fact 1."""
    ids = asking_within()
    model = with_passages(ids)
    give_items(model, "a", ids[:, :40])
    prompt, text = read(model, ids[:, :40], routing="prompt"), read(model, ids)
    assert {one.item: one.is_passage for one in prompt.items["a"]} == {0: True, 1: False}
    begin, begin_text = (reading.items["a"][0].begin for reading in (prompt, text))
    asked = [one.at for one in text.items["a"] if not one.is_passage]
    assert 39 in asked
    expected = [-1] * begin_text + [0] * (60 - begin_text)
    for at in asked:
        expected[at : at + 3] = [1] * 3
    actives = [expected, [-1] * begin + [0] * (33 - begin) + [1] * 7]
    for reading, active in zip((text, prompt), actives, strict=True):
        with torch.no_grad(), model.branch("a", items_BT=torch.tensor([active])):
            own = token_log_probs(model.base(reading.input_ids).logits, reading.input_ids)
        assert same_bits(reading.log_probs_QBT[1], own)


def test_of_two_domains_the_one_that_is_asked_for_a_fact_writes_on():
    prompt = asking_within()[:, :40]
    model = with_passages(prompt, domains="ab")
    give_items(model, "b", prompt[:, 20:])
    reading = read(model, prompt, routing="prompt")
    (passage,), (fact,) = reading.items["a"], reading.items["b"]
    assert fact.score < passage.score == 1.0
    assert reading.writers_B.tolist() == [2]


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


@pytest.mark.parametrize("routing", ["causal", "prompt"])
def test_looking_only_where_something_can_be_found_finds_the_same(routing, monkeypatch):
    model = make_model(domains="abc")
    give_keys(model)
    give_items(model, "a", asking(5, 24))
    give_passages(model, "b", text_of("b", 1, 24, seed=9))
    rows = [text_of(name, 2, 24, seed=8) for name in ("a", "b", "c", None)]
    ids = torch.cat([*rows, asking(5, 24), text_of("b", 1, 24, seed=9)])
    found = read(model, ids, routing=routing)
    assert set(found.domains) == {"a", "b", "c"}
    assert found.items["a"]
    assert found.items["b"]

    class Everywhere:
        def named(self, *_, **__):
            return [0, 1]

        repeated = named

    monkeypatch.setattr(read_module, "possible_domains", lambda keys, *_: [*range(len(keys))])
    monkeypatch.setattr(read_module, "joint_index", lambda _: Everywhere())
    expected = read(model, ids, routing=routing)
    assert found.domains == expected.domains
    assert {k: v for k, v in found.items.items() if v} == {
        k: v for k, v in expected.items.items() if v
    }
    assert torch.equal(found.entries_PBU, expected.entries_PBU)
