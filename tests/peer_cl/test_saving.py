"""A saved model comes back bit for bit, or is refused with a reason."""

import errno
import hashlib
import json
import os

import pytest
import torch
from bits import same_bits
from safetensors import safe_open
from safetensors.torch import save_file
from signed import sign, text_of
from tiny import SHAPE, make_base
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from peer_cl import BaseIdentity, ExpertPool, PeerModel, PoolShape, Segment
from peer_cl.bases import identify
from peer_cl.errors import BaseMismatchError, DamageError, InputError, PeerError, StoreFormatError
from peer_cl.pool import load_segment


def make_tokenizer(*words):
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", *words])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<s>")),
        bos_token="<s>",
        eos_token="</s>",
    )


@pytest.fixture
def text():
    return torch.cat([text_of(None, 3, 10, 1), text_of("a", 3, 20, 2)], 1)


@pytest.fixture
def saved(make_model, tmp_path):
    """A small saved model with two pools, one of two segments, and signatures."""
    model = make_model("llama", budget=0.3, capacity=5)
    older = model.pool("b").chain()
    model.delete_pool("b")
    newer = Segment(width=32, host_layers=(2,), shape=SHAPE)
    model.add_pool("b", ExpertPool("b", [*older, newer]))
    sign(model)
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def segment_file(tmp_path):
    """One segment in a file, its identity, and how to change what is in it."""
    torch.manual_seed(0)
    shape = PoolShape(num_experts=4, num_heads=1, top_k=2, key_width=4)
    segment = Segment(width=8, host_layers=(1, 2), shape=shape)
    identity = BaseIdentity("a" * 64, "b" * 64)
    path = tmp_path / "segment.safetensors"
    path.write_bytes(segment.to_bytes(identity))
    return segment, identity, path


def rewrite(path, change):
    """Write a file again after `change` was made to its tensors and header."""
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors, header)
    save_file(tensors, path, metadata=header)


# --- round trips ------------------------------------------------------------------------------


def test_a_saved_model_comes_back_bit_for_bit(architecture, make_model, text, tmp_path):
    model = make_model(architecture, budget=0.3, capacity=5)
    sign(model)
    model.save_pretrained(tmp_path / "m")
    again = PeerModel.from_pretrained(tmp_path / "m", make_base(architecture))
    assert again.get_model_status() == model.get_model_status()
    assert again.special_ids.tolist() == model.special_ids.tolist()
    for name in ("a", "b"):
        one, other = model.pool(name), again.pool(name)
        assert [s.sha256() for s in one.chain()] == [s.sha256() for s in other.chain()]
        assert one.signature.to_bytes() == other.signature.to_bytes()
        assert not any(p.requires_grad for p in other.parameters())
    for ask in ("all", "signature"):
        assert same_bits(again(text, ask=ask).logits, model(text, ask=ask).logits)
    options = {"domains": ["a"], "force": True, "do_sample": False, "max_new_tokens": 6}
    assert torch.equal(again.generate(text, **options), model.generate(text, **options))


def test_saving_again_writes_the_same_bytes(saved, tmp_path):
    again = PeerModel.from_pretrained(saved, make_base("llama"))
    assert len(again.pool("b").chain()) == 2
    again.save_pretrained(tmp_path / "again")
    files = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
    other = tmp_path / "again"
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    for file in files:
        assert (saved / file).read_bytes() == (other / file).read_bytes()
    for file in (saved / "pools").iterdir():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem


def test_a_model_without_pools_or_background_can_be_saved(make_model, ids, tmp_path):
    make_model("gpt2", pools=()).save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base("gpt2"))
    assert again.active_pools == ()
    assert same_bits(again(ids).logits, make_base("gpt2")(ids).logits)


def test_a_model_in_which_names_count_comes_back_so(make_model, tmp_path):
    model = make_model("llama")
    model.save_pretrained(tmp_path / "plain")
    assert "name_odds" not in (tmp_path / "plain" / "peer_config.json").read_text()
    model.name_odds = 0.1
    model.save_pretrained(tmp_path / "named")
    for folder, odds in (("plain", 0.0), ("named", 0.1)):
        again = PeerModel.from_pretrained(tmp_path / folder, make_base("llama"))
        assert again.name_odds == odds


@pytest.mark.parametrize("num_asked", [None, 1, 0])
def test_what_set_pool_let_be_asked_comes_back(make_model, tmp_path, num_asked):
    model = make_model("llama")
    names = model.active_pools
    assert len(names) > 1
    model.set_pool(None if num_asked is None else names[:num_asked])
    with model.disable_pool():
        model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base("llama"))
    assert again.active_pools == names[:num_asked]


def test_names_never_name_files(make_model, tmp_path):
    names = ("../../escape", "a/b", "ä", "")
    model = make_model("llama", pools=())
    for name in names:
        model.add_pool(name, SHAPE)
    model.save_pretrained(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    again = PeerModel.from_pretrained(tmp_path / "m", make_base("llama"))
    assert again.active_pools == tuple(sorted(names))


def test_a_loaded_pool_equals_the_one_that_was_written(make_model, text, tmp_path):
    model, other = make_model("gemma3"), make_model("gemma3", pools=("b",))
    path = tmp_path / "a.safetensors"
    path.write_bytes(model.pool("a").chain()[0].to_bytes(model.identity))
    for files in ([path], [str(path)], path, str(path)):
        other.load_pool("a", files)
        assert same_bits(other(text, ask="all").logits, model(text, ask="all").logits)
        other.delete_pool("a")
    with pytest.raises(InputError, match=r"none\.safetensors does not exist"):
        other.load_pool("a", str(tmp_path / "none.safetensors"))


def test_equal_segments_give_equal_bytes_and_others_other_hashes(segment_file):
    segment, identity, path = segment_file
    again = load_segment(path.read_bytes(), identity)
    assert again.to_bytes(identity) == path.read_bytes()
    again = load_segment(path, identity)
    assert again.sha256() == segment.sha256()
    assert again.to_bytes(identity) == path.read_bytes()
    assert (again.host_layers, again.shape) == (segment.host_layers, segment.shape)
    assert not any(p.requires_grad for p in again.parameters()), "what grows on it leaves it alone"
    for name, tensor in again.state_dict().items():
        before = again.sha256()
        flat = tensor.view(-1)
        flat[-1] = flat[-1].nextafter(torch.tensor(torch.inf))
        assert again.sha256() != before, name


# --- a save that dies, and saving again -------------------------------------------------------


def changed(saved):
    """Return the saved model with one pool less and another one more."""
    model = PeerModel.from_pretrained(saved, make_base("llama"))
    model.delete_pool("a")
    model.add_pool("c", ExpertPool("c", [Segment(width=32, host_layers=(2,), shape=SHAPE)]))
    return model


def contents(folder):
    """Return each file's hash: pytest would show how thousands of bytes differ for minutes."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.*")
    }


@pytest.mark.parametrize(
    ("name", "spared"),
    [("fsync", 0), ("replace", 0), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1)],
    ids=["segment", "segment's name", "name kept", "folder", "settings", "settings' name"],
)
def test_a_save_that_dies_leaves_the_earlier_model(saved, ids, monkeypatch, name, spared):
    """Whichever file it dies at, and whatever is on disk by then."""
    before, model = contents(saved), changed(saved)
    logits = PeerModel.from_pretrained(saved, make_base("llama"))(ids, ask="all").logits
    ordinary, calls = getattr(os, name), []

    def dying(*args, **options):
        calls.append(args)
        if len(calls) > spared:
            raise OSError(errno.ENOSPC, "No space left on device")
        return ordinary(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, name, dying)
        with pytest.raises(OSError, match="No space left"):
            model.save_pretrained(saved)
    after = contents(saved)
    assert before.items() <= after.items()
    assert not [path for path in after if path.name.endswith(".part")]
    again = PeerModel.from_pretrained(saved, make_base("llama"))
    assert again.active_pools == ("a", "b")
    assert same_bits(again(ids, ask="all").logits, logits)


def test_saving_again_leaves_good_files_and_removes_what_is_no_longer_named(saved):
    model = changed(saved)
    kept = {path: path.stat() for path in (saved / "pools").iterdir()}
    for part in (f"{'0' * 32}.part", f"{'0' * 64}.safetensors.part"):
        (saved / "pools" / part).write_bytes(b"of a save that was killed")
    (saved / f"{'1' * 32}.part").write_bytes(b"of one that was killed at the settings")
    (saved / "pools" / "notes.txt").write_text("mine")
    model.save_pretrained(saved)
    config = json.loads((saved / "peer_config.json").read_text())
    named = {config["background"]} | {
        name for pool in config["pools"].values() for name in (*pool["segments"], pool["signature"])
    }
    assert {path.name for path in saved.iterdir()} == {
        "peer_config.json",
        "pools",
        ".saving.lock",
    }
    files = {path.name for path in (saved / "pools").iterdir()}
    assert files == {f"{name}.safetensors" for name in named - {None}} | {"notes.txt"}
    assert len(set(kept) - set((saved / "pools").iterdir())) == 2  # a's segment and signature
    for path, was in kept.items():
        if path.exists():
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
    assert PeerModel.from_pretrained(saved, make_base("llama")).active_pools == ("b", "c")


def test_saving_again_heals_a_damaged_file(saved):
    model = PeerModel.from_pretrained(saved, make_base("llama"))
    before = contents(saved)
    for path in (saved / "pools").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    model.save_pretrained(saved)
    assert contents(saved) == before


# --- another base or tokenizer --------------------------------------------------------------------


def test_another_base_is_refused_with_both_hashes(saved):
    base = make_base("llama")
    made_for = identify(base, None).weights_sha256
    weight = base.model.layers[3].mlp.down_proj.weight.data
    weight[0, 0] = weight[0, 0].nextafter(torch.tensor(1.0))  # one weight, by one ulp
    found = identify(base, None).weights_sha256
    message = f"weights hash to {made_for[:16]}.*hash to {found[:16]}"
    with pytest.raises(BaseMismatchError, match=message):
        PeerModel.from_pretrained(saved, base)
    assert not any(module._forward_hooks for module in base.modules())


def test_another_tokenizer_is_refused_with_both_hashes(make_model, tmp_path):
    ours, theirs = make_tokenizer("yes", "no"), make_tokenizer("yes", "know")
    base = make_base("llama")
    model = PeerModel(base, host_layers=(1, 3), identity=identify(base, ours))
    model.add_pool("a", SHAPE)
    model.save_pretrained(tmp_path)
    assert PeerModel.from_pretrained(tmp_path, make_base("llama"), ours).active_pools == ("a",)
    hashes = [identify(base, t).tokenizer_sha256[:16] for t in (ours, theirs)]
    with pytest.raises(BaseMismatchError, match="tokenizer hash to {}.*{}".format(*hashes)):
        PeerModel.from_pretrained(tmp_path, make_base("llama"), theirs)
    with pytest.raises(BaseMismatchError, match="pass the tokenizer that it was saved with"):
        PeerModel.from_pretrained(tmp_path, make_base("llama"))


def test_a_padding_token_makes_no_other_tokenizer(make_model, tmp_path):
    ours, padded = make_tokenizer("yes", "no"), make_tokenizer("yes", "no")
    padded.pad_token = padded.eos_token
    for number, (saved_with, loaded_with) in enumerate([(ours, padded), (padded, ours)]):
        folder, base = tmp_path / str(number), make_base("llama")
        model = PeerModel(base, host_layers=(1, 3), identity=identify(base, saved_with))
        model.add_pool("a", SHAPE)
        model.save_pretrained(folder)
        PeerModel.from_pretrained(folder, make_base("llama"), loaded_with)


def test_hashes_of_before_are_known_and_kept(make_model, tmp_path):
    tokenizer, base = make_tokenizer("yes", "no"), make_base("llama")
    tokenizer.pad_token = tokenizer.eos_token
    now = identify(base, tokenizer)
    (before,) = now.tokenizer_also
    old = BaseIdentity(now.weights_sha256, before)
    model = PeerModel(base, host_layers=(1, 3), identity=old)
    model.add_pool("a", SHAPE)
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base("llama"), tokenizer)
    assert again.identity == old
    again.add_pool("b", SHAPE)
    again.save_pretrained(tmp_path)
    PeerModel.from_pretrained(tmp_path, make_base("llama"), tokenizer)
    segment = tmp_path / "segment"
    for identity in (now, old):
        segment.write_bytes(model.pool("a").chain()[0].to_bytes(identity))
        for known in (now, again.identity):
            load_segment(segment, known)


def test_settings_of_a_call_do_not_change_a_tokenizers_hash():
    plain, padding = make_tokenizer("yes", "no"), make_tokenizer("yes", "no")
    padding.backend_tokenizer.enable_padding(length=7)
    padding.backend_tokenizer.enable_truncation(5)
    base = make_base("llama")
    assert identify(base, plain) == identify(base, padding)
    assert identify(base, plain) != identify(base, make_tokenizer("no", "yes"))


@pytest.mark.parametrize("kind", ["weights", "tokenizer"])
def test_a_pool_of_another_base_is_refused_with_both_hashes(segment_file, kind):
    _, identity, path = segment_file
    hashes = {"weights_sha256": identity.weights_sha256, "tokenizer_sha256": "b" * 64}
    other = BaseIdentity(**{**hashes, f"{kind}_sha256": "c" * 64})
    theirs = hashes[f"{kind}_sha256"][:16]
    with pytest.raises(BaseMismatchError, match=f"{kind} hash to {theirs}.*hash to {'c' * 16}"):
        load_segment(path, other)


# --- damage -----------------------------------------------------------------------------------


def test_missing_unexpected_and_unfit_tensors_are_refused(segment_file):
    segment, identity, path = segment_file
    whole = path.read_bytes()
    names = sorted(segment.state_dict())
    changes = [
        ("missing tensors", lambda tensors, _: tensors.pop(names[0])),
        (r"unexpected \['more'\]", lambda tensors, _: tensors.update(more=torch.zeros(1))),
        ("has shape", lambda t, _: t.update({names[1]: torch.zeros(3, 3)})),
        ("not finite", lambda t, _: t[names[2]].view(-1)[0].fill_(torch.nan)),
        ("not finite", lambda t, _: t[names[2]].view(-1)[-1].fill_(torch.inf)),
        ("type", lambda t, _: t.update({names[3]: t[names[3]].int()})),
        ("has format None", lambda _, header: header.update(segment="{}")),
        ("has format 'x'", lambda _, header: header.update(segment='{"format": "x"}')),
        ("its bytes changed", lambda t, _: t[names[2]].view(-1)[5].mul_(1.0001)),
        ("header", lambda _, header: header.pop("segment")),
        ("header", lambda _, header: header.update(segment="{")),
        ("header", lambda _, header: header.update(segment="[1]")),
    ]
    for message, change in changes:
        path.write_bytes(whole)
        rewrite(path, change)
        with pytest.raises(DamageError, match=message):
            load_segment(path, identity)


def test_a_header_that_lacks_or_invents_a_field_is_refused(segment_file):
    _, identity, path = segment_file
    whole = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["segment"])
    broken = [{k: v for k, v in about.items() if k != gone} for gone in about]
    broken += [
        {**about, "shape": {**about["shape"], "colour": 1}},
        {**about, "shape": {**about["shape"], "num_experts": 5}},
        {**about, "shape": {**about["shape"], "mode": "other"}},
        {**about, "host_layers": []},
        {**about, "width": "8"},
    ]
    for wrong in broken:
        path.write_bytes(whole)
        rewrite(path, lambda _, header, wrong=wrong: header.update(segment=json.dumps(wrong)))
        with pytest.raises(DamageError, match=r"segment\.safetensors"):
            load_segment(path, identity)


def test_one_flipped_byte_anywhere_in_a_segment_is_refused(segment_file):
    """Header and payload, though safetensors itself would load most of them."""
    _, identity, path = segment_file
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        for source in (path, bytes(damaged))[: 1 + (place % 25 == 0)]:
            with pytest.raises((DamageError, BaseMismatchError)):
                load_segment(source, identity)


def test_files_that_are_cut_empty_missing_or_something_else_are_refused(segment_file, tmp_path):
    _, identity, path = segment_file
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], whole[:5], b"", whole + b"\0", b"hello" * 9):
        path.write_bytes(content)
        with pytest.raises(DamageError, match=r"segment\.safetensors cannot be read"):
            load_segment(path, identity)
        with pytest.raises(DamageError, match="object a1 cannot be read"):
            load_segment(content, identity, name="object a1")
    with pytest.raises(DamageError, match="gone"):
        load_segment(tmp_path / "gone.safetensors", identity)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(DamageError, match="cannot be read"):
        load_segment(path, identity)


def test_a_refused_pool_leaves_the_model_as_it_was(make_model, ids, segment_file):
    model = make_model("llama")
    before, status = model(ids, ask="all").logits, model.get_model_status()
    with pytest.raises(PeerError):
        model.load_pool("c", [segment_file[2]])
    assert model.get_model_status() == status
    assert same_bits(model(ids, ask="all").logits, before)


def test_one_flipped_byte_in_any_file_of_a_saved_model_is_refused(saved):
    files = sorted((saved / "pools").iterdir())
    assert len(files) == 6  # three segments, two signatures, the background
    for number, file in enumerate(files):
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[(number + 1) * len(whole) // 8] ^= 1
        file.write_bytes(damaged)
        base = make_base("llama")
        with pytest.raises(DamageError, match="not to its name"):
            PeerModel.from_pretrained(saved, base)
        assert not any(module._forward_hooks for module in base.modules())
        file.unlink()
        with pytest.raises(DamageError, match="is missing"):
            PeerModel.from_pretrained(saved, make_base("llama"))
        file.write_bytes(whole)
    PeerModel.from_pretrained(saved, make_base("llama"))


def test_a_folder_without_a_model_or_of_a_newer_format_is_refused(saved, tmp_path):
    with pytest.raises(StoreFormatError, match="no model was saved there"):
        PeerModel.from_pretrained(tmp_path / "nothing", make_base("llama"))
    config = saved / "peer_config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps({**about, "format": 2}))
    with pytest.raises(StoreFormatError, match="has format 2, this version reads 1"):
        PeerModel.from_pretrained(saved, make_base("llama"))


def test_a_damaged_config_is_refused(saved):
    config = saved / "peer_config.json"
    whole = config.read_text()
    about = json.loads(whole)
    broken = [whole[:-20], "", "[]", "\x00" + whole]
    broken += [json.dumps({k: v for k, v in about.items() if k != gone}) for gone in about]
    for text in broken:
        config.write_text(text)
        with pytest.raises(PeerError, match=r"peer_config\.json"):
            PeerModel.from_pretrained(saved, make_base("llama"))
    config.write_text(whole)


def test_settings_that_were_changed_are_refused(saved):
    """A budget or a special token that changed silently would change what is promised."""
    config = saved / "peer_config.json"
    whole = config.read_text()
    about = json.loads(whole)
    for key, value in [
        ("budget", 0.7),
        ("capacity", 6),
        ("special_ids", [0]),
        ("background", None),
    ]:
        config.write_text(json.dumps({**about, key: value}))
        with pytest.raises(DamageError, match=r"peer_config\.json"):
            PeerModel.from_pretrained(saved, make_base("llama"))
