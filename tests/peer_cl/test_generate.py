"""One branch writes each row: who answers or the heaviest; one drawn by the posterior to sample."""

import pytest
import torch
from tiny_models import (
    MAIN,
    SHAPE,
    SUBJECT,
    asking,
    give_items,
    give_keys,
    make_ids,
    make_model,
    teach,
    text_of,
)

from peer_cl import weigh_prompt
from peer_cl.errors import InputError, StateError, UnknownError, UnsupportedError
from peer_cl.own import NO_ITEM
from peer_cl.read import read

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def routed(domains="ab", **options):
    """A model whose prompts find their domain, with a budget that lets pools win."""
    model = make_model(domains=domains, **{"budget": 0.9, "capacity": 2} | options)
    give_keys(model)
    return model


def by_branch(model, name, ids, **options):
    with model.branch(name):
        return model.base.generate(ids, **GREEDY | options)


@pytest.mark.parametrize("architecture", [*MAIN, "gemma4_text"])
def test_a_pool_that_adds_nothing_writes_what_the_base_writes(architecture):
    """Gemma 4 looks up per-layer embeddings by id: a branch must be given the real ones."""
    model, ids = make_model(architecture, domains=""), make_ids(2, 12)
    model.add_pool("new", SHAPE)
    found = model.generate(ids, domains="new", oracle=True, **GREEDY)
    assert torch.equal(found, model.base.generate(ids, **GREEDY))
    teach(model, "new", seed=1, scale=0.6)
    taught = model.generate(ids, domains="new", oracle=True, **GREEDY)
    assert not torch.equal(taught, found)
    # Step by step, without a cache: the branch's own next token each time.
    for _ in range(6):
        with model.branch("new"):
            logits = model.base(ids).logits[:, -1]
        logits[:, 1] = -torch.inf  # min_new_tokens keeps the end token out
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(taught, ids)


def test_greedily_the_heaviest_branch_writes_each_row():
    model = routed()
    ids = torch.cat([text_of("a", 2, 30, 8), text_of("b", 1, 30, 9), text_of(None, 1, 30, 4)])
    weights = weigh_prompt(model, ids)
    assert weights.domains == ("a", "b")
    torch.testing.assert_close(weights.weights_QB.sum(0), torch.ones(4).double())
    writers = [weights.writer(row) for row in range(4)]
    assert writers[3] is None
    assert {"a", "b"} & set(writers)
    found = model.generate(ids, **GREEDY)
    for row, name in enumerate(writers):
        own = ids[row : row + 1]
        expected = by_branch(model, name, own) if name else model.base.generate(own, **GREEDY)
        assert torch.equal(found[row : row + 1], expected)


def test_rows_that_end_early_are_padded_on_the_right():
    model = routed()
    ids = torch.cat([text_of("a", 1, 30, 8), text_of(None, 1, 30, 4)])
    assert weigh_prompt(model, ids).writer(0) == "a"
    end = int(model.base.generate(ids[1:], **GREEDY)[0, 31])
    options = GREEDY | {"min_new_tokens": 1, "eos_token_id": end, "pad_token_id": 0}
    found = model.generate(ids, **options)
    assert found[1, 30:].tolist()[:2] == model.base.generate(ids[1:], **options)[0, 30:].tolist()
    assert found.shape[1] > 32
    assert found[1, 32:].eq(0).all()


def test_beams_and_several_sequences_of_a_prompt():
    model = routed()
    ids = torch.cat([text_of("a", 1, 30, 8), text_of(None, 1, 30, 4)])
    beams = {"num_beams": 3, "num_return_sequences": 2}
    found = model.generate(ids, **beams, **GREEDY)
    assert found.shape == (4, 36)
    assert torch.equal(found[:2], by_branch(model, "a", ids[:1], **beams))
    assert torch.equal(found[2:], model.base.generate(ids[1:], **beams, **GREEDY))


def test_sampling_draws_the_branch_by_the_posterior():
    model = routed(domains="a")
    ids = text_of("a", 1, 6, 8)
    weight = float(weigh_prompt(model, ids, domains="a").weights_QB[1, 0])
    assert 0.1 < weight < 0.9
    torch.manual_seed(0)
    options = {"do_sample": True, "top_k": 1, "max_new_tokens": 6, "min_new_tokens": 6}
    found = model.generate(ids, domains="a", num_return_sequences=200, **options)
    assert found.shape == (200, 12)
    # With top_k=1 each branch writes one text, so that the text tells which branch wrote it.
    own = by_branch(model, "a", ids)[0]
    assert not torch.equal(own, model.base.generate(ids, **GREEDY)[0])
    assert abs(float((found == own).all(1).float().mean()) - weight) < 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_are_continued_as_they_are_alone(side):
    model = routed()
    text = torch.cat([text_of("a", 1, 30, 8), text_of("b", 1, 30, 9), text_of(None, 1, 30, 4)])
    ids, mask = text.clone(), torch.ones_like(text)
    for row, num in ((0, 5), (2, 9)):
        mask[row, slice(0, num) if side == "left" else slice(30 - num, 30)] = 0
    ids[mask == 0] = 0
    found = model.generate(ids, attention_mask=mask, **GREEDY)
    for row in range(3):
        alone = ids[row][mask[row].bool()][None]
        assert torch.equal(found[row, 30:], model.generate(alone, **GREEDY)[0, -6:])


# --- items --------------------------------------------------------------------------------------


def answered(model, name, ids, begin, item=0, **options):
    """What a pool writes with an item active from the last token of its subject on."""
    items = torch.full_like(ids, NO_ITEM)
    items[:, begin:] = item
    with model.branch(name, items_BT=items):
        return model.base.generate(ids, **GREEDY | options)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"use_cache": False}])
def test_a_prompt_is_answered_by_the_item_that_it_asks_for(options):
    model = routed()
    give_items(model, "a", asking(3), asking(1))
    ids = torch.cat([asking(2), asking(1), asking(3)])
    assert [weigh_prompt(model, ids).writer(row) for row in range(3)] == [None, "a", "a"]
    found = model.generate(ids, **GREEDY | options)
    assert torch.equal(found[:1], model.base.generate(ids[:1], **GREEDY | options))
    for row, item in ((1, 1), (2, 0)):
        expected = answered(model, "a", ids[row : row + 1], 9, item, **options)
        assert torch.equal(found[row : row + 1], expected)
        assert not torch.equal(expected, by_branch(model, "a", ids[row : row + 1], **options))
    # Of the domain that is named the nearest item answers.
    found = model.generate(ids[:1], domains="a", oracle=True, **GREEDY | options)
    own = read(model, ids[:1], routing="prompt", domains="a").items["a"][0].item
    assert torch.equal(found, answered(model, "a", ids[:1], 9, own, **options))


def test_who_answers_writes_however_heavy_others_are():
    """The prompt is like the texts of b, and asks for an item of a."""
    model = routed()
    ids = torch.cat([text_of("b", 1, 28, 8), torch.tensor([SUBJECT]), text_of("b", 1, 6, 28)], 1)
    give_items(model, "a", ids)
    weights = weigh_prompt(model, ids)
    assert weights.weights_QB[:, 0].argsort().tolist() == [0, 1, 2]
    assert weights.writer() == "a"
    assert torch.equal(model.generate(ids, **GREEDY), answered(model, "a", ids, 29))


@pytest.mark.parametrize("best", ["a", "b"])
def test_of_several_domains_that_answer_the_one_with_the_best_score_writes(best):
    model, ids = routed(), asking(1)
    other = torch.cat([ids[:, :1], ids[:, 2:]], 1)
    for name in "ab":
        give_items(model, name, ids if name == best else other)
    weights = weigh_prompt(model, ids)
    third = torch.tensor([1 - 2 * model.prior, 1 + model.prior, 1 + model.prior]) / 3
    torch.testing.assert_close(weights.weights_QB[:, 0], third.double())
    assert weights.writer() == best
    assert torch.equal(model.generate(ids, **GREEDY), answered(model, best, ids, 9))


def test_sampled_answers_and_padded_prompts_keep_their_items():
    model = routed()
    give_items(model, "a", asking(1))
    ids = torch.cat([text_of("b", 1, 16, 9), asking(1)])
    own = answered(model, "a", ids[1:], 9)[0]
    torch.manual_seed(0)
    options = {"do_sample": True, "top_k": 1, "max_new_tokens": 6, "min_new_tokens": 6}
    found = model.generate(ids, num_return_sequences=40, **options)[40:]
    weight = float(weigh_prompt(model, ids[1:]).weights_QB[1, 0])
    assert abs(float((found == own).all(1).float().mean()) - weight) < 0.2
    for pad in ((4, 0), (0, 4)):
        padded, mask = (
            torch.nn.functional.pad(one, pad) for one in (ids[1:], torch.ones_like(ids[1:]))
        )
        found = model.generate(padded, attention_mask=mask, **GREEDY)
        assert torch.equal(found[0, -22:], own)


def test_a_call_that_cannot_be_served_is_refused():
    model, ids = routed(), text_of("a", 1, 30, 8)
    for domains in (None, [], ["a", "b"]):
        with pytest.raises(InputError, match="name one domain, not"):
            model.generate(ids, domains=domains, oracle=True)
    with pytest.raises(UnknownError, match="no pool 'x'"):
        model.generate(ids, domains="x")
    with pytest.raises(InputError, match="30 tokens and up to 2300 new ones are wanted"):
        model.generate(ids, max_new_tokens=2300)
    both = torch.cat([ids, text_of(None, 1, 30, 4)])
    with pytest.raises(UnsupportedError, match="several write here"):
        model.generate(both, return_dict_in_generate=True, **GREEDY)
    model.set_pool("b")
    with pytest.raises(StateError, match="pool 'a' is not active"):
        model.generate(ids, domains="a", oracle=True)
