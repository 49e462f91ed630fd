"""Options that are not served are refused wherever they are told, and others work from anywhere."""

import pytest
import torch
from tiny import make_base
from transformers import GenerationConfig

from peer_cl.errors import InputError, UnsupportedError
from peer_cl.generation_options import num_new_tokens

GREEDY = {"max_new_tokens": 6, "do_sample": False}
ASKED = [{"domains": ["a"], "force": True}, {"domains": []}]


@pytest.mark.parametrize("asked", ASKED, ids=["a pool", "no pool"])
@pytest.mark.parametrize("told_by", ["call", "config", "base"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_lookup_num_tokens", 3),
        ("assistant_early_exit", 1),
        ("use_mtp", True),
        ("prefill_chunk_size", 4),
        ("penalty_alpha", 0.5),
        ("cache_implementation", "static"),
        ("cache_implementation", "offloaded"),
        ("output_hidden_states", True),
        ("output_attentions", True),
        ("token_healing", True),
        ("is_assistant", True),
    ],
)
def test_what_is_not_served_is_refused_wherever_it_is_told(
    ids, make_model, asked, told_by, name, value
):
    model, options = make_model(), dict(GREEDY)
    if told_by == "call":
        options[name], what_to_do = value, "leave it out"
    elif told_by == "config":
        config = GenerationConfig(**GREEDY)
        setattr(config, name, value)
        options, what_to_do = {"generation_config": config}, f"the generation_config.{name} to None"
    else:
        setattr(model.base.generation_config, name, value)
        what_to_do = f"model.base.generation_config.{name} to None"
    with pytest.raises(UnsupportedError, match=f"{name}=.* is.* not served.*{what_to_do}"):
        model.generate(ids, return_dict_in_generate=True, **asked, **options)


@pytest.mark.parametrize("asked", ASKED, ids=["a pool", "no pool"])
def test_a_config_may_stand_in_for_the_bases_own(ids, make_model, asked):
    model = make_model()
    expected = model.generate(ids, **asked, **GREEDY)
    model.base.generation_config.repetition_penalty = 30.0
    model.base.generation_config.output_hidden_states = True
    plain = GenerationConfig(eos_token_id=model.base.generation_config.eos_token_id)
    assert torch.equal(model.generate(ids, base_config=plain, **asked, **GREEDY), expected)
    plain.output_attentions = True
    with pytest.raises(UnsupportedError, match=r"set base_config\.output_attentions to None"):
        model.generate(ids, base_config=plain, **asked, **GREEDY)
    with pytest.raises(InputError, match="base_config must be a GenerationConfig, not a dict"):
        model.generate(ids, base_config={}, **asked, **GREEDY)


@pytest.mark.parametrize("asked", ASKED, ids=["a pool", "no pool"])
def test_a_guidance_of_the_bases_own_config_is_refused(ids, make_model, asked):
    model = make_model()
    model.base.generation_config.guidance_scale = 2.0
    message = r"pass guidance_scale itself, and set model\.base\.generation_config\.guidance_scale"
    with pytest.raises(UnsupportedError, match=message):
        model.generate(ids, **asked, **GREEDY)
    model.base.generation_config.guidance_scale = 1.0
    model.generate(ids, **asked, **GREEDY)


@pytest.mark.parametrize("kind", ["dynamic", "hybrid"])
@pytest.mark.parametrize("told_by", ["call", "config", "base"])
def test_a_dynamic_cache_is_served_wherever_it_is_told(ids, make_model, told_by, kind):
    model, options = make_model(), dict(GREEDY)
    expected = [model.generate(ids, **asked, **GREEDY) for asked in ASKED]
    if told_by == "call":
        options["cache_implementation"] = kind
    elif told_by == "config":
        config = GenerationConfig(**GREEDY)
        config.cache_implementation = kind
        options = {"generation_config": config}
    else:
        model.base.generation_config.cache_implementation = kind
    for asked, tokens in zip(ASKED, expected, strict=True):
        assert torch.equal(model.generate(ids, **asked, **options), tokens)


def test_what_says_nothing_is_not_refused(ids, make_model):
    model = make_model()
    for name, value in [("output_attentions", False), ("use_mtp", False), ("penalty_alpha", 0.0)]:
        setattr(model.base.generation_config, name, value)
    assert torch.equal(
        model.generate(ids, domains=[], **GREEDY), make_base("llama").generate(ids, **GREEDY)
    )


def test_the_ids_may_be_called_inputs_as_in_transformers(ids, make_model):
    model = make_model()
    for asked in ASKED:
        expected = model.generate(ids, **asked, **GREEDY)
        assert torch.equal(model.generate(inputs=ids, **asked, **GREEDY), expected)
    for told in ({}, {"input_ids": ids, "inputs": ids}):
        with pytest.raises(InputError, match="the prompts' ids once, as input_ids or as inputs"):
            model.generate(**told, **GREEDY)


def test_a_generation_config_may_follow_the_ids_as_in_transformers(ids, make_model):
    model, config = make_model(), GenerationConfig(**GREEDY)
    for asked in ASKED:
        expected = model.generate(ids, **asked, **GREEDY)
        assert torch.equal(model.generate(ids, config, **asked), expected)
    with pytest.raises(InputError, match=r"must be a GenerationConfig, not a Tensor.* by its name"):
        model.generate(ids, torch.ones_like(ids), domains=["a"])


@pytest.mark.parametrize("asked", ASKED, ids=["a pool", "no pool"])
@pytest.mark.parametrize("told_by", ["call", "config", "base"])
def test_a_length_in_all_is_held_to_the_bases_context(ids, make_model, asked, told_by):
    """Only max_new_tokens was: rotary positions went on past the context without a word."""
    model, context = make_model(), make_base("llama").config.max_position_embeddings

    def write(length):
        if told_by == "call":
            return model.generate(ids, max_length=length, **asked)
        if told_by == "config":
            return model.generate(ids, GenerationConfig(max_length=length), **asked)
        model.base.generation_config.max_length = length
        return model.generate(ids, **asked)

    assert write(23).shape[1] <= 23
    wanted = f"20 tokens and up to {context - 19} new ones are wanted, but .* context is {context}"
    with pytest.raises(InputError, match=wanted):
        write(context + 1)
    model.base.generation_config.max_length = context + 1
    few = model.generate(ids, **asked, **GREEDY)  # max_new_tokens counts, as in transformers
    assert few.shape[1] <= 26


def test_where_nothing_says_how_long_transformers_own_default_counts(ids, make_model):
    model = make_model()
    assert num_new_tokens(model, {}, 20) == 20
    context = model.base.config.max_position_embeddings
    assert num_new_tokens(model, {}, context - 7) == 7
    with pytest.warns(UserWarning, match="default `max_length`"):
        written = model.generate(ids, domains=["a"], eos_token_id=-1)
    assert written.shape[1] == 40
