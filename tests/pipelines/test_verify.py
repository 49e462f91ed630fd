import pytest
import torch
from damage import spoil_page
from safetensors.torch import load_file, save_file
from tiny_base import copy_store, make_tiny_store

from peer_cl.errors import DamageError
from pipelines import open_store
from pipelines.bare_process import equal_to_bare, run_bare
from pipelines.base_models import resolve_base
from pipelines.batches import tokenise
from pipelines.verify import TEXTS, compare_with_bare, verify


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def place(good, tmp_path):
    return copy_store(good, tmp_path)


def failed(place):
    with open_store(place) as store:
        report = verify(store)
    assert report.is_good == (not [c for c in report.checks if c.verdict == "failed"])
    return {check.what: check.note for check in report.checks if check.verdict == "failed"}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_good_store_passes_every_check(good):
    with open_store(good) as store:
        report = verify(store)
    assert report.is_good
    told = {check.what: check for check in report.checks}
    assert {check.verdict for check in report.checks} == {"good"}
    for what in ("no domain named", "pools disabled", "pools by shortlist"):
        assert f"bits of the bare model, {what}" in told
    assert {"pool of law v1", "pool of medicine v1"} <= set(told)


def test_a_store_without_a_pool_passes_too(place):
    with open_store(place) as store:
        store.roll_back("law", out=True)
        store.roll_back("medicine", out=True)
    assert not failed(place)


def test_one_weight_of_the_base_moved_by_one_ulp_fails(place):
    path = place.parent / "base" / "model.safetensors"
    tensors = load_file(path)
    weight = tensors["model.layers.2.mlp.up_proj.weight"]
    weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(torch.inf))
    save_file(tensors, path, metadata={"format": "pt"})
    told = failed(place)
    assert "sha256 of the base's weights and tokenizer" in told
    assert "weights hash" in told["sha256 of the base's weights and tokenizer"]


def test_one_weight_moved_after_loading_shows_in_the_bits(good):
    with open_store(good) as store:
        model, tokenizer = store.load()
        source = resolve_base(store.registry.config.base_id)
    rows = tokenise(tokenizer, TEXTS[:2])
    assert {check.verdict for check in compare_with_bare(model, source, rows)} == {"good"}
    weight = model.base.model.norm.weight.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    checks = compare_with_bare(model, source, rows)
    assert {check.verdict for check in checks} == {"failed"}
    assert "is not the bare model's" in checks[0].note


def test_a_pool_that_is_asked_shows_in_the_bits(good):
    """The comparison can fail: with a pool asked, nothing is bit-equal."""
    with open_store(good) as store:
        model, tokenizer = store.load()
        source = resolve_base(store.registry.config.base_id)
    rows = tokenise(tokenizer, TEXTS[:2])
    ordinary = type(model).forward

    def asking(self, *args, domains=None, **inputs):
        return ordinary(self, *args, domains=["law"] if domains == [] else domains, **inputs)

    model.__class__ = type("Asking", (type(model),), {"forward": asking})
    verdicts = [check.verdict for check in compare_with_bare(model, source, rows)]
    assert verdicts[0] == "failed"


def test_texts_that_ask_no_pool_are_equal_and_a_moved_weight_is_seen(good):
    with open_store(good) as store:
        model, tokenizer = store.load()
        source = resolve_base(store.registry.config.base_id)
    assert equal_to_bare(model, source, []) == []
    rows = tokenise(tokenizer, TEXTS[:3])
    silent = [not model.score(torch.tensor([row]), ask="context").entries_PBU.any() for row in rows]
    assert equal_to_bare(model, source, rows) == silent
    assert any(silent)
    weight = model.base.model.norm.weight.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    assert equal_to_bare(model, source, rows) == [False] * 3


@pytest.mark.parametrize("at", [0, 40, 0.5, -1])
def test_one_flipped_byte_of_a_pool_fails_and_is_named(place, at):
    with open_store(place) as store:
        (segment,) = store.registry.domain("medicine").chain
        path = store.registry.objects.path(segment.pool_object)
    flip(path, int(at * path.stat().st_size) if isinstance(at, float) else at)
    told = failed(place)
    assert "the pool of medicine v1" in told["object damaged"]
    assert segment.pool_object in told["pool of medicine v1"]
    assert "pool of law v1" not in told


@pytest.mark.parametrize("which", ["signature", "document", "background"])
def test_one_flipped_byte_of_any_other_object_fails(place, which):
    with open_store(place) as store:
        registry = store.registry
        object_id = {
            "signature": registry.domain("law").chain[0].signature_object,
            "document": registry.documents("law")[0].text_object,
            "background": registry.config.background_object,
        }[which]
        path = registry.objects.path(object_id)
    flip(path, -1)
    assert object_id in failed(place)["object damaged"]


def test_the_bare_process_loads_nothing_of_this_project(good, tmp_path, monkeypatch):
    source = str(good.parent / "base")
    (bare,) = run_bare(source, [[0, 5, 6]], None)
    assert set(bare) == {"alone", "in a batch", "writing"}
    (tmp_path / "sitecustomize.py").write_text("import peer_cl\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DamageError, match="had peer_cl loaded: no proof"):
        run_bare(source, [[0, 5, 6]], None)


def test_a_bare_process_that_fails_says_why(tmp_path):
    with pytest.raises(DamageError, match="bare model's process failed"):
        run_bare(str(tmp_path / "none"), [[0]], None)


def test_a_damaged_registry_fails_and_nothing_more_is_looked_at(place):
    spoil_page(place, "segment_documents")
    told = failed(place)
    assert set(told) == {"database"}
    assert "the registry is damaged: " in told["database"]
