"""Segments and models come back bit for bit, or are refused with a reason."""

import errno
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    MAIN,
    SHAPE,
    asking,
    give_items,
    give_keys,
    make_base,
    make_model,
    same_bits,
    text_of,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from peer_cl import BaseIdentity, ExpertPool, PeerModel, PoolShape, Segment
from peer_cl.bases import identify
from peer_cl.errors import BaseMismatchError, DamageError, InputError, StoreFormatError
from peer_cl.pool import load_segment
from peer_cl.read import read

IDENTITY = BaseIdentity("a" * 64, "b" * 64)


def make_tokenizer(*words):
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", *words])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<s>")),
        bos_token="<s>",
        eos_token="</s>",
    )


# --- segments -----------------------------------------------------------------------------------


def make_segment():
    torch.manual_seed(0)
    shape = PoolShape(num_experts=4, num_heads=1, top_k=2, key_width=4, mode="replace")
    return Segment(width=8, host_layers=(1, 2), shape=shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_segment_comes_back_bit_for_bit(tmp_path, dtype):
    segment = make_segment().to(dtype)
    data, path = segment.to_bytes(IDENTITY), tmp_path / "s.safetensors"
    path.write_bytes(data)
    state = torch.get_rng_state()
    for source in (data, path):
        found = load_segment(source, IDENTITY)
        assert found.sha256() == segment.sha256()
        assert found.to_bytes(IDENTITY) == data
        assert not any(parameter.requires_grad for parameter in found.parameters())
    assert torch.equal(torch.get_rng_state(), state), "loading draws no random numbers"


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_segment_of_which_any_bit_flipped_is_refused(place, bit):
    data = bytearray(make_segment().to_bytes(IDENTITY))
    data[int(place * len(data))] ^= 1 << bit
    with pytest.raises((DamageError, BaseMismatchError), match="the segment"):
        load_segment(bytes(data), IDENTITY)


def test_what_is_no_segment_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no segment file"):
        load_segment(tmp_path / "none", IDENTITY)
    for data in (b"", b"x" * 100, make_segment().to_bytes(IDENTITY)[:-1]):
        with pytest.raises(DamageError, match="law cannot be read as a segment"):
            load_segment(data, IDENTITY, name="law")


# --- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", MAIN)
def test_a_saved_model_comes_back_bit_for_bit(architecture, tmp_path):
    model = make_model(architecture, state_layer=1)
    model.add_pool("c", ExpertPool("c"))
    give_keys(model)
    model.pool("c").key = None
    for name in "bc":
        give_items(model, name, asking(1), asking(2))
    model.set_pool("a")
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base(architecture))
    assert again.get_model_status() == model.get_model_status()
    assert again.special_ids.tolist() == model.special_ids.tolist()
    for one in (model, again):
        one.set_pool(None)
    assert again.pool("b").key.to_bytes() == model.pool("b").key.to_bytes()
    for name in "bc":
        own, kept = (one.pool(name).own_experts()[0] for one in (again, model))
        assert own.to_bytes(IDENTITY) == kept.to_bytes(IDENTITY)
    text = torch.cat([text_of(None, 3, 10, 1), text_of("a", 3, 20, 2)], 1)
    for ids, domains in ((text, {"a"}), (asking(1), {"b", "c"})):
        for routing in ("all", "causal", "prompt"):
            found, expected = (one(ids, routing=routing).logits for one in (again, model))
            assert same_bits(found, expected)
        assert domains <= set(read(again, ids, routing="prompt").domains)


def test_saving_again_writes_the_same_bytes_and_removes_what_is_named_no_more(tmp_path):
    model = make_model()
    give_keys(model)
    model.save_pretrained(tmp_path / "one")
    PeerModel.from_pretrained(tmp_path / "one", make_base()).save_pretrained(tmp_path / "two")

    def files(folder):
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")}

    assert files(tmp_path / "one") == files(tmp_path / "two")
    model.delete_pool("a")
    model.save_pretrained(tmp_path / "two")
    assert len(files(tmp_path / "one")) == len(files(tmp_path / "two")) + 2
    assert PeerModel.from_pretrained(tmp_path / "two", make_base()).active_pools == ("b",)


def test_a_pool_is_loaded_from_its_files(tmp_path):
    model, files = make_model(domains="a"), []
    for number, segment in enumerate([*model.pool("a").chain(), model.new_segment(SHAPE)]):
        files.append(tmp_path / f"{number}.safetensors")
        files[-1].write_bytes(segment.to_bytes(model.identity))
    model.load_pool("one", files[0])
    model.load_pool("two", [str(file) for file in files])
    assert [len(model.pool(name).chain()) for name in ("one", "two")] == [1, 2]
    scores = model.score(text_of(None, 2, 9, 1)).log_probs_QBT
    assert same_bits(scores[1], scores[2])
    assert same_bits(scores[1], scores[3])


def test_another_base_dtype_or_tokenizer_is_refused(tmp_path):
    base, tokenizer = make_base(), make_tokenizer("law")
    model = make_model(base=base, identity=identify(base, tokenizer))
    model.save_pretrained(tmp_path)
    PeerModel.from_pretrained(tmp_path, make_base(), make_tokenizer("law"))
    with pytest.raises(BaseMismatchError, match=r"weights hash to .* this one's hash to"):
        PeerModel.from_pretrained(tmp_path, make_base().half(), tokenizer)
    for other in (None, make_tokenizer("medicine")):
        with pytest.raises(BaseMismatchError, match="tokenizer hash to"):
            PeerModel.from_pretrained(tmp_path, base, other)
    base.lm_head.weight.data[0, 0] += 1
    with pytest.raises(BaseMismatchError, match="the model was made for a base whose weights"):
        model.save_pretrained(tmp_path)


def test_a_folder_that_is_damaged_or_none_is_refused(tmp_path):
    base = make_base()
    with pytest.raises(StoreFormatError, match="no model was saved there"):
        PeerModel.from_pretrained(tmp_path, base)
    make_model(domains="a", base=base).save_pretrained(tmp_path)
    config, (segment,) = tmp_path / "peer_config.json", (tmp_path / "pools").iterdir()
    good, data = config.read_text(), segment.read_bytes()
    config.write_text(good[:-9])
    with pytest.raises(DamageError, match="cannot be read"):
        PeerModel.from_pretrained(tmp_path, base)
    config.write_text(good)
    for harm in (lambda: segment.write_bytes(data[:-1]), segment.unlink):
        harm()
        with pytest.raises(DamageError, match="is missing, or its bytes changed"):
            PeerModel.from_pretrained(tmp_path, base)


def test_a_save_that_fails_leaves_the_model_that_was_saved_before(tmp_path, monkeypatch):
    model = make_model(domains="a")
    model.save_pretrained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    model.add_pool("b", SHAPE)

    def full(_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
