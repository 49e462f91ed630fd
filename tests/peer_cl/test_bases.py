"""Loading a base from a folder, and what is refused there."""

import json

import pytest
from tiny_base import make_tiny_base
from tiny_models import make_base
from transformers import AutoTokenizer

from peer_cl import load_base
from peer_cl.bases import context_length, identify, start_token_id, within_context
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
    ("harm", "message"),
    [
        (lambda f: configure(f, tie_word_embeddings=False), r"lack lm_head.weight, which would be"),
        (lambda f: cut(f, "model.safetensors"), "can be loaded from .*SafetensorError"),
        (lambda f: cut(f, "tokenizer.json"), "can be loaded from .*JSONDecodeError"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "can be loaded from"),
        (widen, "has ids up to 400, the model's embedding 400 rows"),
    ],
    ids=["headless", "cut weights", "cut words", "pickled", "more words"],
)
def test_a_broken_base_is_refused_in_one_line_with_its_folder(folder, harm, message):
    harm(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_base(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_no_hub_id():
    for source in ("", "./none", "/none/there", "~/none"):
        with pytest.raises(InputError, match="there is no folder"):
            load_base(source)
    with pytest.raises(InputError, match="'nobody/nothing', which is no folder, as a hub id"):
        load_base("nobody/nothing")


def test_an_identity_is_of_the_weights_and_of_what_the_tokenizer_does(folder):
    base = load_base(str(folder))
    assert not base.model.training
    again = load_base(str(folder))
    again.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    again.tokenizer(["a", "a a"], padding=True, truncation=True, max_length=1)
    assert identify(again.model).weights_sha256 == base.identity.weights_sha256
    again = load_base(str(folder)).model
    again.model.embed_tokens.weight.data[0, 0] += 1
    assert identify(again).weights_sha256 != base.identity.weights_sha256
    widen(folder)
    wider = AutoTokenizer.from_pretrained(folder)
    assert identify(base.model, wider).tokenizer_sha256 != base.identity.tokenizer_sha256
    assert identify(base.model).tokenizer_sha256 == ""


def test_the_start_token_and_the_context(folder):
    base = load_base(str(folder))
    assert start_token_id(base.tokenizer) == base.tokenizer.bos_token_id
    assert context_length(base.model) == 512
    assert [within_context(base.model, n) for n in (9, 900)] == [9, 512]
    assert context_length(make_base("bloom")) is None
    with pytest.raises(InputError, match="no begin, end or separator token"):
        start_token_id(AutoTokenizer.from_pretrained(folder, eos_token=None, bos_token=None))
