"""Own experts add at places of active items alone, and each item's are its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import MAIN, make_ids, make_model, make_own, same_bits
from torch.nn import functional
from transformers import DynamicCache

from peer_cl import BaseIdentity
from peer_cl.errors import BaseMismatchError, DamageError
from peer_cl.own import NO_ITEM, OUTPUT_SCALE, Item, OwnExperts, joined, load_own

IDENTITY = BaseIdentity("a" * 64, "b" * 64)
ITEMS = [Item(f"fact {number}", ((number, 7), (8,)), number) for number in range(4)]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def own_of(*numbers, seed=0):
    """Random experts of some of the items."""
    items = [ITEMS[number] for number in numbers]
    keys = torch.randn(len(items), 2, 5, generator=torch.manual_seed(seed))
    return make_own(items, keys, seed)


def inputs_of(*shape):
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(1))


# --- what is added ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(NO_ITEM, 3), min_size=10, max_size=10), st.sampled_from([1, 2]))
def test_each_place_gets_what_its_active_item_adds_there_and_others_nothing(active, layer):
    own, inputs = own_of(0, 1, 2, 3), inputs_of(2, 5)
    items = torch.tensor(active).view(2, 5)
    added = own(inputs, layer, items)
    for one in map(tuple, (items >= 0).nonzero().tolist()):
        item = int(items[one])
        down, up = (each[item, layer - 1].float() for each in (own.down_ILRD, own.up_ILRD))
        hidden = functional.gelu(down @ inputs[one])
        torch.testing.assert_close(added[one], OUTPUT_SCALE * hidden @ up)
        # To the bit it depends neither on other places nor on other items.
        alone = own.at([item])(inputs[one][None, None], layer, torch.zeros(1, 1).long())
        assert same_bits(added[one], alone[0, 0])
    assert not added[items < 0].any()


def test_new_experts_add_nothing_and_are_drawn_for_each_item_alone():
    keys = torch.zeros(2, 1, 5)
    some = [OwnExperts(ITEMS[:2], keys, host_layers=(1,), width=32, num_experts=2) for _ in "ab"]
    for own, seeds in zip(some, ([5, 6], [9, 6]), strict=True):
        for place, seed in enumerate(seeds):
            own.reset_item(place, seed)
        assert not own(inputs_of(1, 2), 1, torch.tensor([[0, 1]])).any()
    one, other = (own.down_ILRD for own in some)
    assert same_bits(one[1], other[1])
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("architecture", MAIN)
def test_a_branch_changes_from_the_first_active_token_on(architecture):
    model, ids, own = make_model(architecture, domains=""), make_ids(2, 9), own_of(0, 1)
    bare = model.base(ids).logits
    items = torch.full((2, 9), NO_ITEM)
    with model.hooks.branch((), own=[own], items_BT=items):
        assert same_bits(model.base(ids).logits, bare)
    items[1, 4:6] = 1
    with model.hooks.branch((), own=[own], items_BT=items):
        found = model.base(ids).logits
    assert same_bits(found[0], bare[0])
    assert same_bits(found[1, :4], bare[1, :4])
    assert not torch.isclose(found[1, 4:], bare[1, 4:]).all(-1).any()
    assert same_bits(model.base(ids).logits, bare)


def test_items_are_numbered_one_list_after_the_other():
    model, ids, lists = make_model(domains=""), make_ids(2, 9), [own_of(0, 1), own_of(2, 3, seed=1)]
    items = torch.tensor([[2] * 9, [NO_ITEM] * 9])
    with model.hooks.branch((), own=lists, items_BT=items):
        found = model.base(ids).logits
    with model.hooks.branch((), own=lists[1:], items_BT=items.clamp_max(0)):
        assert same_bits(model.base(ids).logits, found)


@pytest.mark.parametrize("num_read", [13, 1])
def test_what_comes_after_a_prompt_has_its_last_tokens_item(num_read):
    """In cached steps, of one token or of several, and where all is read again."""
    model, ids, own = make_model(), make_ids(2, 18), own_of(0, 1)
    items = torch.full((2, num_read), NO_ITEM)
    items[:, 0], items[0, -1] = 0, 1
    whole = torch.cat([items, items[:, -1:].expand(-1, 18 - num_read)], 1)
    with model.hooks.branch((), own=[own], items_BT=whole):
        expected = model.base(ids).logits
    with model.hooks.branch((), own=[own], items_BT=items):
        assert same_bits(model.base(ids).logits, expected)
        cache, steps = DynamicCache(config=model.base.config), []
        for some in ids.split([num_read, 1, 1, 18 - num_read - 2], 1):
            steps.append(model.base(some, cache=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}])
def test_the_cache_changes_nothing_that_is_written(options):
    model, ids, own = make_model(), make_ids(2, 9), own_of(0, 1)
    items = torch.full((2, 9), NO_ITEM)
    items[0, 3:], items[1, 5:] = 1, 0
    options = options | {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    written = []
    for use_cache in (True, False):
        with model.hooks.branch((), own=[own], items_BT=items):
            written.append(model.base.generate(ids, use_cache=use_cache, **options))
    assert torch.equal(*written)
    assert not torch.equal(written[0], model.base.generate(ids, **options))


# --- taking out, and bytes ----------------------------------------------------------------------


def test_experts_without_some_items_keep_their_bits():
    own = own_of(0, 1, 2, 3)
    left = own.without({"fact 1", "fact 2", "unknown"})
    assert left.items == (ITEMS[0], ITEMS[3])
    assert left.to_bytes(IDENTITY) == own.at([0, 3]).to_bytes(IDENTITY)
    places, inputs = torch.tensor([[0, 3, NO_ITEM]]), inputs_of(1, 3)
    moved = torch.tensor([[0, 1, NO_ITEM]])
    assert same_bits(left(inputs, 1, moved), own(inputs, 1, places))
    assert same_bits(left.relations_IKE, own.relations_IKE[[0, 3]])
    assert own.without({item.item_id for item in ITEMS}) is None


def passages_of(*numbers):
    """Random experts of some passages, each of as many tokens as its number."""
    items = [Item(f"text {n}", questions=(("Who?", f"{n}", "own"),) * (n % 3)) for n in numbers]
    texts = [torch.arange(number).int() + 100 * number for number in numbers]
    return make_own(items, torch.empty(len(items), 0, 0), 0, texts)


@pytest.mark.parametrize("make", [own_of, passages_of])
def test_parts_joined_again_are_the_whole_bit_for_bit(make):
    own = make(0, 2, 3)
    parts = [own.at([0]), own.at([1, 2])]
    assert joined(parts).to_bytes(IDENTITY) == own.to_bytes(IDENTITY)
    assert joined(parts[::-1]).to_bytes(IDENTITY) == own.at([1, 2, 0]).to_bytes(IDENTITY)


@pytest.mark.parametrize("make", [own_of, passages_of])
def test_experts_come_back_bit_for_bit(make):
    own = make(0, 2)
    data = own.to_bytes(IDENTITY)
    found = load_own(data, IDENTITY)
    assert found.to_bytes(IDENTITY) == data
    assert (found.items, found.host_layers) == (own.items, own.host_layers)
    for name in ("relations_IKE", "down_ILRD", "up_ILRD"):
        assert same_bits(getattr(found, name), getattr(own, name))
    assert all(map(same_bits, found.texts, own.texts))
    assert len(found.texts) == len(own.texts)
    assert not any(parameter.requires_grad for parameter in found.parameters())
    with pytest.raises(BaseMismatchError, match="facts"):
        load_own(data, BaseIdentity("c" * 64, "b" * 64), name="facts")


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_experts_of_which_any_bit_flipped_are_refused(place, bit):
    data = bytearray(own_of(0, 2).to_bytes(IDENTITY))
    data[int(place * len(data))] ^= 1 << bit
    with pytest.raises(DamageError, match="the facts"):
        load_own(bytes(data), IDENTITY, name="the facts")
    for damaged in (b"", b"x" * 100, bytes(data[:-1])):
        with pytest.raises(DamageError, match="own experts cannot be read"):
            load_own(damaged, IDENTITY)
