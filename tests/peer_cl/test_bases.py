"""Which folders are bases, and what is said of those that are none."""

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_base import make_tiny_base
from transformers import AutoTokenizer

from peer_cl import bases, load_base
from peer_cl.bases import context_length, within_context
from peer_cl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return make_tiny_base(tmp_path / "base")


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:500])


def widen(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["quartzite"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda f: configure(f, tie_word_embeddings=False), r"lack lm_head.weight, which would be"),
        (lambda f: configure(f, num_hidden_layers=6), r"lack model.layers.4\..* and 15 more"),
        (
            lambda f: configure(f, hidden_size=64),
            r"has shape \(.*\), not \(.*64.*\); put the files",
        ),
        (lambda f: cut(f, "model.safetensors"), "can be loaded from .*SafetensorError"),
        (lambda f: cut(f, "tokenizer.json"), "can be loaded from .*JSONDecodeError"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "can be loaded from .*KeyError"),
        (lambda f: configure(f, hidden_size=None), "can be loaded from .*Validation"),
        (widen, "has ids up to 400, but the model's embedding has 400 rows"),
    ],
    ids=[
        "headless",
        "layers",
        "width",
        "cut weights",
        "cut words",
        "no words",
        "no width",
        "more words",
    ],
)
def test_a_broken_base_is_refused_in_one_line_with_its_folder(folder, harm, told):
    load_base(str(folder))
    harm(folder)
    with pytest.raises(InputError, match=told) as got:
        load_base(str(folder))
    assert str(folder) in str(got.value)
    assert "\n" not in str(got.value)


def test_a_token_that_only_pads_may_have_no_embedding(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    assert load_base(str(folder)).tokenizer.pad_token_id == 400


def test_no_code_of_a_base_is_run(folder, tmp_path, monkeypatch):
    """Nor is a person asked whether it may, which a job would wait for."""
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    configure(folder, model_type="own", auto_map=own)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="wants Python code of its own to be run, and none is"):
        load_base(str(folder))
    assert not ran.exists()


def test_no_code_of_a_tokenizer_is_run(folder, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Own: ...\n"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (folder / "own.py").write_text(code)
    path = folder / "tokenizer_config.json"
    about = json.loads(path.read_text())
    about |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    path.write_text(json.dumps(about))
    with contextlib.suppress(InputError):
        load_base(str(folder))
    assert not ran.exists()


def test_pickled_weights_are_not_read(folder, monkeypatch):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    load_base(str(folder))
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("a pickle was read"))
    with pytest.raises(InputError, match=r"pickled \(pytorch_model.bin\).*save_pretrained") as told:
        load_base(str(folder))
    assert "\n" not in str(told.value)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(bases, "AutoModelForCausalLM", None)
    for name in (str(tmp_path / "bse"), "./bse", "../bse", "~/bse", "models/own/bse"):
        with pytest.raises(InputError, match=f"there is no folder {name}; give"):
            load_base(name)


def test_a_name_that_may_be_an_id_is_said_to_be_no_folder_either(monkeypatch):
    def refuse(*_, **__):
        raise OSError("cannot\nconnect")

    monkeypatch.setattr(bases.AutoModelForCausalLM, "from_pretrained", refuse)
    told = "there is no folder 'own/bse', and as a hub id it cannot be loaded: OSError cannot conn"
    with pytest.raises(InputError, match=told):
        load_base("own/bse")


def test_a_name_that_nobody_can_be_asked_about_offline_is_told_shortly(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told = "there is no folder 'tinybas', and no model of that name in the cache"
    with pytest.raises(InputError, match=told) as refused:
        load_base("tinybas")
    assert len(str(refused.value)) < 220


def test_a_context_is_what_the_config_says(folder):
    model = load_base(str(folder)).model
    assert context_length(model) == 512
    assert [within_context(model, num) for num in (5, 512, 1024)] == [5, 512, 512]
    config = SimpleNamespace(get_text_config=lambda **_: SimpleNamespace())
    endless = SimpleNamespace(config=config)
    assert context_length(endless) is None
    assert within_context(endless, 1024) == 1024
