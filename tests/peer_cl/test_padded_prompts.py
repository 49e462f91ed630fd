"""A padded batch is written on as its rows alone would be, told by a mask or by a padding token."""

import pytest
import torch
from bits import same_bits
from transformers import GenerationConfig

from peer_cl import PeerCache
from peer_cl.errors import UnsupportedError
from peer_cl.generation_options import inferred_mask

PAD = 2
GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
ASKED = {"domains": ["a", "b"], **GREEDY}


def padded(ids, side):
    """Return a batch with padding, and its mask."""
    ids = ids.clone()
    ids[ids == PAD] = PAD + 1
    mask = torch.ones_like(ids)
    for row, num in ((0, 5), (1, 9)):
        part = slice(0, num) if side == "left" else slice(20 - num, 20)
        mask[row, part] = 0
        ids[row, part] = PAD
    return ids, mask


def masses(model, ids, **options):
    cache = PeerCache(model.base.config, model.attachment.tap)
    written = model.generate(ids, cache=cache, **ASKED, **options)
    return written, cache


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padding_token_is_no_evidence(architecture, ids, make_model, side):
    """Pads, and the first token after them, counted: pools were weighed by padding."""
    model = make_model(architecture, budget=0.9, capacity=2)
    ids, mask = padded(ids, side)
    expected, known = masses(model, ids, attention_mask=mask, pad_token_id=PAD)
    found, cache = masses(model, ids, pad_token_id=PAD)
    assert torch.equal(found, expected)
    assert torch.equal(cache.evidence_BL, known.evidence_BL)
    assert same_bits(cache.masses_QB, known.masses_QB)
    taken, _ = masses(model, ids)  # in these bases' configs the padding token ends texts
    assert not torch.equal(taken[:, 20:], expected[:, 20:])


@pytest.mark.parametrize("told_by", ["call", "config", "base"])
def test_padding_is_what_transformers_takes_for_it(ids, make_model, told_by):
    model = make_model("llama")
    ids, mask = padded(ids, "left")
    told = {"pad_token_id": PAD, "eos_token_id": 1}
    options = {}
    if told_by == "call":
        options = dict(told)
    elif told_by == "config":
        options = {"generation_config": GenerationConfig(**told)}
    else:
        model.base.generation_config.update(**told)
    assert torch.equal(inferred_mask(model, options, ids), mask)
    assert inferred_mask(model, options, ids.clamp_min(PAD + 1)) is None
    assert inferred_mask(model, {**options, "eos_token_id": [1, PAD]}, ids) is None
    assert inferred_mask(model, {**options, "pad_token_id": None}, ids) is None
    assert torch.equal(inferred_mask(model, {**options, "eos_token_id": None}, ids), mask)


@pytest.mark.parametrize(
    "options",
    [
        {"pad_token_id": PAD},
        {"pad_token_id": PAD, "eos_token_id": [5, PAD]},
        {"pad_token_id": PAD, "eos_token_id": None},
        {"pad_token_id": None},
        {"pad_token_id": torch.tensor(PAD), "eos_token_id": torch.tensor([5, 6])},
    ],
)
def test_the_mask_is_the_one_that_transformers_makes(ids, make_model, options):
    model = make_model("llama")
    ids, _ = padded(ids, "left")
    seen = []
    model.base.register_forward_pre_hook(
        lambda _, __, told: seen.append(told.get("attention_mask")), with_kwargs=True
    )
    model.base.generate(ids, **{**GREEDY, "max_new_tokens": 1, "min_new_tokens": 1}, **options)
    found = inferred_mask(model, options, ids)
    assert [one is None for one in (found, seen[0])] in ([True, True], [False, False])
    assert found is None or torch.equal(found, seen[0])


def test_an_empty_cache_follows_right_padding_too(ids, make_model):
    model = make_model("llama", budget=0.9, capacity=2)
    ids, mask = padded(ids, "right")
    expected = model.generate(ids, attention_mask=mask, **ASKED)
    found, cache = masses(model, ids, attention_mask=mask)
    assert torch.equal(found, expected)
    assert cache.get_seq_length() == 25
    longer = torch.cat([found, ids], 1)
    mask = torch.cat([mask.sort(1).values, torch.ones(3, 6).long(), mask], 1)
    with pytest.raises(UnsupportedError, match="right padding cannot continue a cache"):
        model.generate(longer, attention_mask=mask, cache=cache, **ASKED)
