"""Verification passes on a good store, and fails where a bit differs."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_model
from tiny_store import copy_store

from peer_cl.errors import DamageError
from peer_cl.read import read
from pipelines.bare_logits import equal_to_bare, run_bare
from pipelines.batches import tokenise
from pipelines.store import open_store
from pipelines.verify import TEXTS, compare_with_bare


@pytest.fixture
def place(tiny_store, tmp_path):
    return copy_store(tiny_store, tmp_path)


def failed(place):
    with open_store(place) as store:
        report = store.verify()
    assert report.is_good == all(check.verdict != "failed" for check in report.checks)
    return {check.what: check.note for check in report.checks if check.verdict == "failed"}


def test_a_good_store_passes_every_check(tiny_store):
    with open_store(tiny_store) as store:
        report = store.verify()
    assert report.is_good
    assert {check.verdict for check in report.checks} == {"good"}
    names = {check.what for check in report.checks}
    assert {"pool of law v1", "pool of medicine v1"} <= names
    for how in ("no domain named", "pools disabled", "routed"):
        assert f"bits of the bare model, {how}" in names


def test_texts_in_which_a_domain_is_found_are_told_apart(tiny_store):
    with open_store(tiny_store) as store:
        model, tokenizer = store.load()
        queries, source = store.registry.queries, store.registry.config.base_id
        learned = queries.document_text(queries.documents("law", split="train")[0])
    rows = tokenise(tokenizer, [*TEXTS[:2], learned])
    assert [check.note for check in compare_with_bare(model, source, rows)] == [
        *["the same in 3 texts, alone, in a batch and with a continuation"] * 2,
        "the same in 2 texts, alone, in a batch and with a continuation; in 1 other text a domain "
        "is found, which may change the bits",
    ]


def test_one_weight_of_the_base_moved_by_one_ulp_fails(place):
    path = place.parent / "base" / "model.safetensors"
    tensors = load_file(path)
    weight = tensors["model.layers.2.mlp.up_proj.weight"]
    weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(torch.inf))
    save_file(tensors, path, metadata={"format": "pt"})
    found = failed(place)
    assert "weights hash" in found["sha256 of the base's weights and tokenizer"]
    assert "no model to compare" in found["bits of the bare model"]


@pytest.mark.parametrize(
    ("kind", "at", "called"),
    [
        ("shared", 0, "the shared experts of medicine v1"),
        ("shared", 40, "the shared experts of medicine v1"),
        ("passages", -1, "passages' own experts of medicine v1"),
    ],
)
def test_one_flipped_byte_of_a_pool_fails_and_is_named(place, kind, at, called):
    with open_store(place) as store:
        (segment,) = store.registry.queries.domain("medicine").chain
        path = store.registry.objects.path([*segment.objects_of(kind).values()][-1])
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    found = failed(place)
    assert called in found["object"]
    assert "pool of medicine v1" in found
    assert "pool of law v1" not in found


def test_a_moved_weight_or_an_active_domain_shows_in_the_bits(tiny_store):
    with open_store(tiny_store) as store:
        model, tokenizer = store.load()
        source = store.registry.config.base_id
    rows = tokenise(tokenizer, TEXTS[:3])
    inactive = [not read(model, torch.tensor([row]), routing="prompt").domains for row in rows]
    assert any(inactive)
    assert equal_to_bare(model, source, rows) == inactive
    weight = model.base.model.norm.weight.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    checks = compare_with_bare(model, source, rows)
    assert {check.verdict for check in checks} == {"failed"}
    assert "is not the bare model's" in checks[0].note
    assert equal_to_bare(model, source, rows) == [False] * 3


def test_a_bare_process_that_fails_is_reported_in_a_line(tmp_path):
    with pytest.raises(DamageError, match=r"the bare model's process failed \(1\): \S"):
        run_bare(str(tmp_path), [[0, 1]], make_model(domains=""))
