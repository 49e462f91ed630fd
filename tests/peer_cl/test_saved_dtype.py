"""A saved model knows in which dtype its base was, and says so where another one is given."""

import json

import pytest
import torch
from bits import same_bits
from tiny import make_base
from tiny_base import make_tiny_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from peer_cl import PeerModel, load_base
from peer_cl.errors import BaseMismatchError
from peer_cl.pool import load_segment
from peer_cl.saving import _checksum


@pytest.fixture
def folder(make_model, tmp_path):
    make_model("llama").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_checkpoint_in_bfloat16_is_told_how_to_be_loaded(tmp_path):
    """transformers loads a checkpoint in its own dtype, `load_base` in float32."""
    place = make_tiny_base(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16).save_pretrained(place)
    base = load_base(str(place))
    assert base.identity.dtype == "float32"
    model = PeerModel(base.model, host_layers=(1, 3), identity=base.identity)
    model.save_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(place)
    other = AutoModelForCausalLM.from_pretrained(place)
    assert other.dtype == torch.bfloat16
    message = r"made for float32, and this one is bfloat16: load it with dtype=torch\.float32"
    with pytest.raises(BaseMismatchError, match=message):
        PeerModel.from_pretrained(tmp_path / "saved", other, tokenizer)
    right = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    again = PeerModel.from_pretrained(tmp_path / "saved", right, tokenizer)
    assert again.identity.dtype == "float32"


def test_a_model_that_was_saved_before_dtypes_were_kept_is_loaded(folder):
    path = folder / "peer_config.json"
    config = json.loads(path.read_text())
    assert config.pop("base_dtype") == "float32"
    path.write_text(json.dumps({**config, "sha256": _checksum(config)}))
    again = PeerModel.from_pretrained(folder, make_base("llama"))
    assert again.active_pools == ("a", "b")
    again.save_pretrained(folder)
    assert json.loads(path.read_text())["base_dtype"] == "float32"
    path.write_text(json.dumps({**config, "sha256": _checksum(config)}))
    with pytest.raises(BaseMismatchError, match="trained on, in its dtype: this one is float16"):
        PeerModel.from_pretrained(folder, make_base("llama").half())


def test_a_model_that_was_cast_is_not_saved(folder):
    """Its base is known by its weights as they were: nobody could load it on either."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    model = PeerModel.from_pretrained(folder, make_base("llama")).bfloat16()
    message = r"is bfloat16 now, and was float32 .*: save before half.*dtype=torch\.bfloat16"
    with pytest.raises(BaseMismatchError, match=message):
        model.save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_model_that_is_made_in_half_precision_is_loaded_there(ids, tmp_path):
    model = PeerModel(make_base("llama").half(), host_layers=(1, 3))
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base("llama").half())
    assert same_bits(again(ids).logits, model(ids).logits)
    with pytest.raises(BaseMismatchError, match=r"load it with dtype=torch\.float16"):
        PeerModel.from_pretrained(tmp_path, make_base("llama"))


def test_a_segment_keeps_its_bytes_whatever_is_known_of_the_dtype(make_model):
    """Segments lie in stores under their hashes, and know no dtype."""
    model = make_model("llama")
    segment = model.pool("a").chain()[0]
    data = segment.to_bytes(model.identity)
    half = PeerModel(make_base("llama").half(), host_layers=(1, 3))
    assert load_segment(data, model.identity).to_bytes(model.identity) == data
    with pytest.raises(BaseMismatchError, match="in its dtype: this one is float16"):
        load_segment(data, half.identity, name="a segment")
