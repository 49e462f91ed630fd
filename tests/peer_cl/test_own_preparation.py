"""Bases that prepare generation's inputs in a way of their own, which the mixture does not run."""

import ast
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import transformers
from bits import same_bits
from tiny import SHAPE, make_base, teach
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from peer_cl import PeerCache, PeerModel
from peer_cl.errors import UnsupportedError
from peer_cl.generation_options import switch_length

SWITCH = 24
"""Past so many tokens the tiny Phi-3s turn every position anew."""
LONG_ROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.2,
}
KINDS = {
    "phi3": {"original_max_position_embeddings": SWITCH, "rope_scaling": LONG_ROPE},
    "phimoe": {
        "rope_scaling": LONG_ROPE
        | {"short_mscale": 1.0, "long_mscale": 1.0, "original_max_position_embeddings": SWITCH},
        "num_local_experts": 2,
    },
}
WHOLE = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}


@pytest.fixture(params=KINDS)
def model(request):
    """A tiny base with a switch, and a pool that says just what the base says."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **SIZES, **deepcopy(KINDS[request.param]))
    base = AutoModelForCausalLM.from_config(config).eval()
    made = PeerModel(base, host_layers=(1, 3), budget=0.2, capacity=8)
    made.add_pool("a", SHAPE)
    return made


def prompt(num_tokens):
    generator = torch.Generator().manual_seed(num_tokens)
    return torch.randint(2, 97, (2, num_tokens), generator=generator)


def lengths(num_new):
    return {"max_new_tokens": num_new, "min_new_tokens": num_new}


@pytest.mark.parametrize(("num_tokens", "num_new"), [(20, 5), (24, 1), (25, 5), (30, 8)])
def test_on_either_side_of_the_switch_the_bases_bits_are_written(model, num_tokens, num_new):
    ids, options = prompt(num_tokens), WHOLE | lengths(num_new)
    ours = model.generate(ids, domains=["a"], **options)
    bare = model.base.generate(ids, **options)
    assert all(same_bits(one, two) for one, two in zip(ours.logits, bare.logits, strict=True))


@pytest.mark.parametrize(("num_tokens", "num_new"), [(20, 6), (24, 2)])
def test_no_cache_is_carried_over_the_switch(model, num_tokens, num_new):
    """The base drops its own there; the branches' went on, and no pool's call had other bits."""
    ids, options = prompt(num_tokens), WHOLE | lengths(num_new)
    message = rf"prompt has {num_tokens} tokens .* come to 26: past 24 .*stop at 25 tokens in all"
    with pytest.raises(UnsupportedError, match=message) as refused:
        model.generate(ids, domains=["a"], **options)
    assert "\n" not in str(refused.value)
    # Without a cache, or without pools, nothing has to be dropped.
    ours = model.generate(ids, domains=["a"], use_cache=False, **options)
    bare = model.base.generate(ids, use_cache=False, **options)
    assert all(same_bits(one, two) for one, two in zip(ours.logits, bare.logits, strict=True))
    none = model.generate(ids, domains=[], **options).sequences
    assert same_bits(none, model.base.generate(ids, **lengths(num_new), do_sample=False))


def test_a_conversation_is_not_carried_over_the_switch(model):
    cache = PeerCache(model.base.config, model.attachment.tap)
    first = model.generate(prompt(20), domains=["a"], cache=cache, **lengths(3))
    longer = torch.cat([first, prompt(4)], 1)
    with pytest.raises(UnsupportedError, match=r"the cache has 22 tokens and the text may come"):
        model.generate(longer, domains=["a"], cache=cache, **lengths(2))


def test_a_length_that_no_preparation_switches_at_is_none(ids):
    base = make_base("llama")
    base.config.original_max_position_embeddings = SWITCH
    assert switch_length(base) is None
    written = with_pool(base).generate(ids, domains=["a"], force=True, **lengths(12))
    assert written.shape[1] == 32


def with_pool(base):
    model = PeerModel(base, host_layers=(1, 3), budget=0.2, capacity=8)
    model.add_pool("a", SHAPE)
    teach(model, "a", seed=1)
    return model


# --- which architectures there are --------------------------------------------------------------


@pytest.fixture(scope="module")
def own_preparations():
    """By kind of causal language model in transformers, the source of its own preparation."""
    kinds = {name: kind for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}
    found = {}
    for path in sorted(Path(transformers.__file__).parent.glob("models/*/modeling_*.py")):
        source = path.read_text(encoding="utf-8")
        if "def prepare_inputs_for_generation" not in source:
            continue
        for node in ast.parse(source).body:
            if not isinstance(node, ast.ClassDef) or node.name not in kinds:
                continue
            for part in node.body:
                if getattr(part, "name", None) == "prepare_inputs_for_generation":
                    found[kinds[node.name]] = ast.get_source_segment(source, part)
    return found


def test_which_architectures_prepare_their_inputs_themselves(own_preparations):
    """One that is new here is to be looked at: the mixture runs transformers' general one."""
    dropping_the_cache = {"phi3", "phi4_multimodal", "phimoe"}
    of_images_and_sounds = {"gemma3", "gemma4", "gemma4_unified", "musicgen", "musicgen_melody"}
    recurrent = {"bamba", "falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
    recurrent |= {"zamba", "zamba2"}
    old = {"cpmant", "ctrl", "openai-gpt", "reformer", "roc_bert", "xlm", "xlnet"}
    known = dropping_the_cache | of_images_and_sounds | recurrent | old
    assert set(own_preparations) == known


def test_those_that_drop_their_cache_do_so_at_one_length(own_preparations):
    """`switch_length` knows that one; another cause to drop it would go unseen."""
    dropping = {kind for kind, source in own_preparations.items() if "cache = None" in source}
    assert dropping == {"phi3", "phi4_multimodal", "phimoe"}
    for kind in dropping:
        assert "self.config.original_max_position_embeddings + 1" in own_preparations[kind]
