"""Methods that change the model: they learn, can be kept, and replay what they say they do."""

import dataclasses
import gc
import weakref

import pytest
import torch
from tiny_base import make_tiny_base
from tiny_stream import SETTINGS, stream_domain

from benchmarks.stream.data import joined, prepare_domain
from benchmarks.stream.methods import dense
from benchmarks.stream.methods.dense import FullFinetuning, Lora, Osf, replayed
from benchmarks.stream.methods.training import Spared
from peer_cl.bases import load_base
from peer_cl.errors import DamageError
from pipelines.ordinary import OrdinaryText
from pipelines.progress import no_progress
from pipelines.reading import log_probs

MAKE = {
    "lora": lambda base: Lora(base, rank=4),
    "full": FullFinetuning,
    "osf": lambda base: Osf(base, 2),
}
RATES = {"lora": 3e-2, "full": 1e-2, "osf": 1e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def domains(folder):
    base = load_base(str(folder))
    return [prepare_domain(stream_domain(s), base, SETTINGS) for s in ("law", "minerals")]


def learn(method, data, rate):
    method.learn(data, learning_rate=rate, settings=SETTINGS, progress=no_progress)


def loss(method, data):
    return -sum(float(one.sum()) for one in log_probs(method.reader(), [i.ids for i in data.test]))


@pytest.mark.parametrize("name", MAKE)
def test_it_learns_one_domain_after_the_other_and_comes_back_from_disk(
    name, folder, domains, tmp_path
):
    method = MAKE[name](load_base(str(folder)))
    law, minerals = domains
    before = loss(method, law)
    learn(method, law, RATES[name])
    learned = loss(method, law)
    assert learned < before
    learn(method, minerals, RATES[name])
    assert loss(method, law) > learned  # what one domain taught, the next one spoils
    method.save(tmp_path)
    again = MAKE[name](load_base(str(folder)))
    again.load(tmp_path)
    rows = [item.ids for item in minerals.test]
    for one, other in zip(
        log_probs(method.reader(), rows), log_probs(again.reader(), rows), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-5)


def test_lora_trains_its_adapter_and_nothing_else(folder, domains):
    base = load_base(str(folder))
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    method = Lora(base, rank=4)
    learn(method, domains[0], 1e-2)
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p
        for name, p in method.model.named_parameters()
        if "lora_" not in name
    }
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_lora_that_reads_ordinary_text_leaves_it_as_the_base_has_it(folder, domains):
    ordinary = OrdinaryText({}, tuple(item.ids for item in domains[1].test))
    settings = dataclasses.replace(SETTINGS, kl_weight=50.0)
    spoiled, learned = [], []
    for told in (None, ordinary):
        method = Lora(load_base(str(folder)), rank=4, ordinary=told)
        before = loss(method, domains[0])
        method.learn(domains[0], learning_rate=3e-2, settings=settings, progress=no_progress)
        spared = Spared(ordinary, method._bare)
        with torch.no_grad():
            apart = [spared.apart(method.reader(), 0, step, 50) for step in range(20)]
        spoiled.append(float(sum(apart)))
        learned.append(before - loss(method, domains[0]))
    assert spoiled[1] < 0.75 * spoiled[0]
    assert min(learned) > 0
    with pytest.raises(DamageError, match="keeps no beginnings"):
        Spared(OrdinaryText({}), method._bare).apart(method.reader(), 0, 0, 50)


def test_osf_protects_more_from_domain_to_domain(folder, domains):
    method = Osf(load_base(str(folder)), 2)
    assert method.kept == 0.3
    learn(method, domains[0], 3e-3)
    first = method.num_parameters
    learn(method, domains[1], 3e-3)
    assert method.num_parameters < first


def test_osf_frees_what_it_trained_once_it_is_merged(folder, domains, monkeypatch):
    trained, wrap = [], dense.peft.get_peft_model

    def recorded(*told):
        wrapped = wrap(*told)
        trained.extend(weakref.ref(p) for n, p in wrapped.named_parameters() if "osf_svd" in n)
        return wrapped

    monkeypatch.setattr(dense.peft, "get_peft_model", recorded)
    method = Osf(load_base(str(folder)), 2)
    gc.disable()  # none that happens to come may free them
    try:
        learn(method, domains[0], 3e-3)
        assert trained
        assert not [one for one in trained if one() is not None]
    finally:
        gc.enable()


def test_replay_adds_a_tenth_of_earlier_steps_and_drops_none(domains):
    law, minerals = domains
    seen = replayed(minerals, [law], 0.1, SETTINGS)
    own = [step for step in seen.steps if step[0] < len(minerals.rows)]
    assert own == [tuple(step) for step in minerals.steps]
    num_old = len(seen.steps) - len(own)
    assert num_old == round(len(minerals.steps) / 9)
    old = {tuple(law.rows[n].ids for n in step) for step in law.steps}
    added = [step for step in seen.steps if step[0] >= len(minerals.rows)]
    assert all(tuple(seen.rows[n].ids for n in step) in old for step in added)
    assert replayed(law, [], 0.1, SETTINGS) == law


def test_the_joint_model_learns_all_domains(folder, domains):
    method = Lora(load_base(str(folder)), rank=4)
    before = [loss(method, one) for one in domains]
    learn(method, joined(domains, seed=0), 3e-2)
    assert all(loss(method, one) < was for one, was in zip(domains, before, strict=True))


def test_a_loss_that_is_no_number_stops_the_run(folder, domains):
    method = FullFinetuning(load_base(str(folder)))
    with pytest.raises(DamageError, match="the loss is nan at step"):
        learn(method, dataclasses.replace(domains[0]), 1e6)
