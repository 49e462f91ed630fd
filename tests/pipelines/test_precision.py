"""Reading and training in bf16: faster, the same products, and the base's weights stay."""

import pytest
import torch
from tiny import CONFIGS, VOCABULARY, make_base

from pipelines.precision import cast_once, reading, resolve_precision

IDS = torch.arange(24).reshape(2, 12) % VOCABULARY


def autocast_logits(base):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return base(IDS, use_cache=False).logits


@pytest.mark.parametrize("architecture", CONFIGS)
def test_matrices_that_are_cast_once_give_autocasts_own_bits(architecture):
    base = make_base(architecture)
    with torch.no_grad():
        exact = base(IDS, use_cache=False).logits
    expected = autocast_logits(base)
    assert not torch.equal(expected.float(), exact)
    with cast_once(base, "bf16"):
        assert torch.equal(autocast_logits(base), expected)
    with torch.no_grad():
        assert torch.equal(base(IDS, use_cache=False).logits, exact)
    assert not [module for module in base.modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_forward_that_a_layer_had_of_its_own_comes_back(precision):
    base = make_base("llama")
    layer = next(module for module in base.modules() if type(module) is torch.nn.Linear)
    own = layer.forward
    layer.__dict__["forward"] = own
    with cast_once(base, precision):
        pass
    assert layer.__dict__.get("forward") is own


def test_gradients_are_autocasts_own_too():
    base = make_base("llama").requires_grad_(False)
    found = []
    for precision in ("fp32", "bf16"):
        embedded = base.get_input_embeddings()(IDS).requires_grad_(True)
        with cast_once(base, precision), torch.autocast("cpu", dtype=torch.bfloat16):
            base(inputs_embeds=embedded, use_cache=False).logits.float().sum().backward()
        found.append(embedded.grad)
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0


def test_an_error_inside_leaves_the_model_as_it_was():
    base = make_base("llama")
    with pytest.raises(RuntimeError, match="inside"), reading(base, "bf16"):
        raise RuntimeError("inside")
    assert not [module for module in base.modules() if "forward" in module.__dict__]


def test_reading_in_fp32_gives_the_models_own_bits():
    base = make_base("llama")
    with torch.no_grad():
        expected = base(IDS, use_cache=False).logits
    with reading(base, "fp32"):
        assert torch.equal(base(IDS, use_cache=False).logits, expected)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ({"amx_bf16": True, "cpu_name": "Intel Xeon"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "AMD EPYC"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, "fp32"),
        ({"avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_is_decided_by_what_the_processor_has(monkeypatch, found, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert resolve_precision("auto") == chosen
    assert (resolve_precision("fp32"), resolve_precision("bf16")) == ("fp32", "bf16")
