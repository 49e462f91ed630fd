import dataclasses

import numpy as np
import pytest
import torch
from tiny_base import background

from benchmarks.stream.methods import sparse_memory as module
from benchmarks.stream.methods.sparse_memory import (
    SparseMemory,
    frozen_sha256,
    memory_layers,
    tf_idf,
)
from peer_cl.errors import DamageError, InputError
from peer_cl.layer import PoolShape
from peer_cl.pool import tensors_sha256
from pipelines.batches import tokenise
from pipelines.init import spread_layers
from pipelines.progress import no_progress
from pipelines.reading import log_probs, reader_of

RATE = 0.02


@pytest.fixture
def make(tiny, settings):
    def new(**changes):
        texts = tokenise(tiny.tokenizer, background(8))
        return SparseMemory(tiny, texts, **{"num_rows": 9, "shape": settings.shape, **changes})

    return new


@pytest.fixture
def learn(settings):
    def run(memory, data, rate=RATE, progress=no_progress):
        memory.learn(data, learning_rate=rate, settings=settings, progress=progress)

    return run


def loss(reader, data):
    rows = [row.ids for row in data.rows if row.kind != "varied"]
    return -float(np.concatenate(log_probs(reader, rows)).mean())


def test_a_new_memory_is_the_base_and_learning_lowers_the_loss(make, learn, tiny, domains):
    memory, base = make(), tensors_sha256(tiny.model.state_dict())
    untouched = loss(reader_of(tiny.model), domains["law"])
    assert loss(memory.reader(), domains["law"]) == pytest.approx(untouched, abs=1e-6)
    told = []
    learn(memory, domains["law"], progress=lambda *words: told.append(words))
    assert loss(memory.reader(), domains["law"]) < untouched - 0.1
    assert told[-1][1] == told[-1][2] == len(domains["law"].steps)
    before = loss(memory.reader(), domains["minerals"])
    learn(memory, domains["minerals"])
    assert loss(memory.reader(), domains["minerals"]) < before - 0.02
    assert tensors_sha256(tiny.model.state_dict()) == base
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())


def test_a_later_domain_changes_its_chosen_rows_and_no_other_byte(make, learn, domains):
    memory = make()
    num_all = sum(parameter.numel() for parameter in memory.memory.parameters())
    assert memory.num_parameters == num_all
    learn(memory, domains["law"])
    assert memory.num_parameters == num_all
    chosen = memory.choose(domains["minerals"], no_progress)
    assert {int(mask.sum()) for mask in chosen.values()} == {9}
    before = {name: tensor.clone() for name, tensor in memory.memory.state_dict().items()}
    learn(memory, domains["minerals"])
    assert memory.num_parameters == 9 * 2 * 32 * 3
    changed = 0
    for name, tensor in memory.memory.state_dict().items():
        words = name.split(".")
        bits, old = tensor.view(torch.int32), before[name].view(torch.int32)
        if words[-1] in ("down_ND", "up_ND"):
            moved = (bits != old).any(1)
            changed += int(moved.sum())
            assert not (moved & ~chosen[int(words[1])]).any()
        else:
            assert torch.equal(bits, old)
    assert changed > 0.5 * 2 * 9 * 3


def test_bytes_that_must_not_change_are_watched(make, learn, domains, monkeypatch):
    memory = make()
    learn(memory, domains["law"])
    monkeypatch.setattr(module, "_masked", lambda mask: lambda gradient: gradient)
    with pytest.raises(DamageError, match="minerals: bytes changed that are not"):
        learn(memory, domains["minerals"])


def test_the_hash_is_of_what_may_not_change(make):
    memory = make().memory
    chosen = {layer: torch.zeros(64, dtype=torch.bool) for layer in memory.host_layers}
    chosen[1][5] = True
    one = frozen_sha256(memory, chosen, with_router=True)
    with torch.no_grad():
        memory.layer(1).experts.up_ND[5] = 1.0
    assert frozen_sha256(memory, chosen, with_router=True) == one
    without = frozen_sha256(memory, chosen, with_router=False)
    with torch.no_grad():
        memory.layer(1).query.weight[0, 0] = 1.0
    assert frozen_sha256(memory, chosen, with_router=True) != one
    assert frozen_sha256(memory, chosen, with_router=False) == without
    with torch.no_grad():
        memory.layer(2).experts.down_ND[5] = 1.0
    assert frozen_sha256(memory, chosen, with_router=False) != without


def test_uses_are_counted_as_if_each_text_were_alone(make, domains):
    memory = make()
    texts = [row.ids for row in domains["law"].rows[:5]]
    together = memory.uses(texts)
    heads_times_k = 2 * 4
    for number, ids in enumerate(texts):
        alone = memory.uses([ids])
        for layer, uses in together.items():
            assert uses[number].sum() == heads_times_k * (len(ids) - 1)
            assert torch.equal(uses[number], alone[layer][0])


def test_rows_that_all_text_uses_are_last():
    everywhere = torch.tensor([[3, 0, 1], [3, 0, 0]])
    ranks = tf_idf(torch.tensor([90, 5, 5]), everywhere)
    assert ranks.argsort(descending=True).tolist() == [1, 2, 0]
    assert ranks[0] == 0


def test_what_was_saved_goes_on_to_the_same_bits(make, learn, domains, tmp_path):
    memory = make()
    learn(memory, domains["law"])
    memory.save(tmp_path / "memory")
    assert [path.suffix for path in (tmp_path / "memory").iterdir()] == [".safetensors"]
    back = make(seed=1)
    back.load(tmp_path / "memory")
    assert back.num_learned == 1
    for one in (memory, back):
        learn(one, domains["minerals"])
    assert back.memory.sha256() == memory.memory.sha256()


def test_by_default_an_eighth_of_as_many_rows_as_pools_have_may_change(make):
    memory = make(num_rows=None, shape=None)
    assert memory.memory.host_layers == memory_layers(4) == (1, 2, 3)
    num = memory.memory.shape.num_experts
    assert memory.num_rows == num // 8
    of_pools = PoolShape().num_experts * len(spread_layers(30))
    assert 0.9 < num * len(memory_layers(30)) / of_pools < 1.4


def test_a_loss_that_is_not_finite_and_wrong_arguments_are_told(make, learn, domains, tiny):
    with pytest.raises(InputError, match=r"num_rows must lie in 1\.\.64 \(num_experts\), not 65"):
        make(num_rows=65)
    with pytest.raises(InputError, match="without background"):
        SparseMemory(tiny, [])
    memory = make()
    with torch.no_grad():
        memory.memory.layer(1).experts.up_ND[:] = float("nan")
    with pytest.raises(DamageError, match="the loss is nan at step 0"):
        learn(memory, dataclasses.replace(domains["law"], steps=domains["law"].steps[:2]))
