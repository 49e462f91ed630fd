"""A saved model is not loaded onto a base that has its old weights and computes something else."""

import copy
import json

import pytest
import torch
from bits import same_bits
from tiny import CONFIGS
from transformers import AutoModelForCausalLM

from peer_cl import PeerModel
from peer_cl.computes import FARTHEST, FARTHEST_BF16, change_since, check_computed, computed
from peer_cl.errors import BaseMismatchError, StateError
from peer_cl.saving import _checksum

ACTIVATIONS = {
    "gpt2": "activation_function",
    "llama": "hidden_act",
    "gemma3": "hidden_activation",
}


def base_of(architecture, **changes):
    """Return a base with these weights, whatever else its config says; positions count in it."""
    config = copy.deepcopy(CONFIGS[architecture])
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config).eval()
    for name, weights in base.named_parameters():
        if weights.ndim > 1 and "embed" not in name and "wte" not in name:
            weights.data *= 10
    return base


@pytest.fixture
def folder(architecture, tmp_path):
    PeerModel(base_of(architecture), host_layers=(1, 3)).save_pretrained(tmp_path)
    return tmp_path


def without_entry(folder):
    """Let a saved model be one of before."""
    path = folder / "peer_config.json"
    config = json.loads(path.read_text())
    del config["computes"]
    path.write_text(json.dumps({**config, "sha256": _checksum(config)}))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_another_activation_is_refused(architecture, folder, activation):
    base = base_of(architecture, **{ACTIVATIONS[architecture]: activation})
    with pytest.raises(BaseMismatchError, match=r"computes something else: .* \d+% from") as told:
        PeerModel.from_pretrained(folder, base)
    assert "\n" not in str(told.value)
    assert not any(module._forward_hooks for module in base.modules())
    PeerModel.from_pretrained(folder, base_of(architecture))


@pytest.mark.parametrize("architecture", ["llama"])
def test_another_rotary_base_is_refused(folder):
    rotary = {"rope_type": "default", "rope_theta": 100.0}
    with pytest.raises(BaseMismatchError, match="computes something else"):
        PeerModel.from_pretrained(folder, base_of("llama", rope_parameters=rotary))


def test_what_a_model_without_the_entry_was_saved_with_is_not_asked(architecture, folder):
    without_entry(folder)
    for activation in ("relu", "tanh"):
        base = base_of(architecture, **{ACTIVATIONS[architecture]: activation})
        PeerModel.from_pretrained(folder, base).save_pretrained(folder)
        assert "computes" in json.loads((folder / "peer_config.json").read_text())
        without_entry(folder)


def test_the_same_base_is_the_same_in_another_precision(architecture):
    attachment = PeerModel(base_of(architecture), host_layers=(1, 3)).attachment
    then = computed(attachment)
    assert change_since(attachment, then) < 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert change_since(attachment, then) < 1e-4
    for dtype, most in ((torch.float16, FARTHEST), (torch.bfloat16, FARTHEST_BF16)):
        other = PeerModel(base_of(architecture).to(dtype), host_layers=(1, 3)).attachment
        assert 0 < change_since(other, then) < most
        check_computed(other, then, "it")


def test_a_base_of_a_short_context_and_few_tokens_is_asked_within_them(tmp_path):
    base = base_of("gpt2", n_positions=20, vocab_size=31)
    PeerModel(base, host_layers=(1, 3)).save_pretrained(tmp_path)
    told = json.loads((tmp_path / "peer_config.json").read_text())["computes"]
    assert (len(told["ids"]), len(told["log_probs"])) == (20, 19)
    assert max(told["ids"]) < 31
    PeerModel.from_pretrained(tmp_path, base_of("gpt2", n_positions=20, vocab_size=31))


def test_nothing_is_kept_where_the_base_overflows(ids, tmp_path):
    base = base_of("llama")
    base.model.layers[2].mlp.down_proj.weight.data[0, 0] = torch.nan
    model = PeerModel(base, host_layers=(1, 3))
    assert computed(model.attachment) is None
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, copy.deepcopy(model.detach()))
    assert again(ids).logits.isnan().any()


def test_a_base_that_is_no_number_any_more_is_refused():
    attachment = PeerModel(base_of("llama"), host_layers=(1, 3)).attachment
    then = computed(attachment)
    attachment.model.model.layers[2].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(BaseMismatchError, match="computes something else"):
        check_computed(attachment, then, "it")


def test_a_model_that_gave_its_base_back_is_saved_and_one_in_training_is_not(ids, tmp_path):
    model = PeerModel(base_of("gpt2"), host_layers=(1, 3))
    model.base.transformer.h[1].train()
    with pytest.raises(StateError, match=r"training mode \(transformer\.h\.1\).*model\.eval"):
        model.save_pretrained(tmp_path)
    model.eval().detach()
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, base_of("gpt2"))
    assert same_bits(again(ids).logits, base_of("gpt2")(ids).logits)
