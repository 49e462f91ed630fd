"""Own experts: each fact's are a function of the fact alone, to the bit, and they learn it."""

import random
from dataclasses import replace

import pytest
import torch
from tiny_base import make_tiny_base
from tiny_store import OWNER, SETTINGS

from peer_cl.bases import load_base
from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.items import RelationSpace
from pipelines.batches import tokenise
from pipelines.encoder import MINILM
from pipelines.fact_training import fact_losses, own_host_layers, train_facts
from pipelines.facts import Relation

WORDS = ("river", "morning", "garden", "rain", "house", "quiet")
ANSWERS = ("rent", "court", "tenant", "fever", "silica")
NEAR = Relation("neighbour", "Next to {subject}, if you walk down along the river, lives", ())
LONG = [NEAR.fact(f"the old house {n}", ANSWERS[n % 5]) for n in range(10, 30)]
"""Their rows are all of one padded length: they are more than a group."""
FACTS = [*LONG[:17], *(OWNER.fact(f"house {n}", ANSWERS[n % 5]) for n in range(10, 17)), *LONG[17:]]
OTHERS = [NEAR.fact(f"the new house {n}", ANSWERS[n % 4]) for n in range(50, 60)]
FEW_STEPS = replace(SETTINGS, own_steps=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def learn(base):
    """Train own experts of facts, in a space of relations that was drawn at random."""
    generator = torch.Generator().manual_seed(0)
    last_XE, mean_XE = torch.randn(2, 32, 64, generator=generator)
    space = RelationSpace((2,), last_XE, mean_XE, torch.zeros(64), torch.zeros(64), 0.0)

    def run(facts, checkpoints, settings=FEW_STEPS, **options):
        return train_facts(
            Hooks(base.model),
            {fact.document_id: fact for fact in facts},
            tokenizer=base.tokenizer,
            space=space,
            words=WORDS,
            settings=settings,
            encoder=MINILM,
            checkpoints=checkpoints,
            **options,
        )

    return run


def each(own, base):
    """Return each item with its experts and keys as bytes, by document id."""
    parts = {item.item_id: own.at([place]) for place, item in enumerate(own.items)}
    return {key: one.to_bytes(base.identity) for key, one in parts.items()}


@pytest.fixture(scope="module")
def trained(base, learn, tmp_path_factory):
    own = learn(FACTS, tmp_path_factory.mktemp("trained"))
    assert [item.item_id for item in own.items] == [fact.document_id for fact in FACTS]
    return each(own, base)


@pytest.mark.parametrize(
    "chosen",
    [
        FACTS[4:5],
        FACTS[::-1],
        FACTS[::2],
        FACTS[1::2],
        [*OTHERS[:6], *LONG[8:10], *OTHERS[6:]],
        random.Random(1).sample([*FACTS, *OTHERS], 20),
        [*OTHERS, *LONG[:6], LONG[9]],
    ],
    ids=["alone", "reversed", "half", "other half", "among others", "mixed", "17th of a group"],
)
def test_neither_neighbours_nor_place_change_a_bit_of_an_item(
    base, learn, trained, tmp_path, chosen
):
    found = each(learn(chosen, tmp_path), base)
    assert len(found) == len(chosen)
    common = found.keys() & trained.keys()
    assert common
    assert all(found[key] == trained[key] for key in common)


@pytest.mark.parametrize("change", [{"relation": "landlord"}, {"answer": "fever"}, {"seed": 1}])
def test_another_fact_or_seed_gives_other_experts(base, learn, trained, tmp_path, change):
    settings = replace(FEW_STEPS, seed=change.get("seed", 0))
    relation = replace(NEAR, name=change.get("relation", NEAR.name))
    fact = relation.fact(FACTS[0].subject, change.get("answer", FACTS[0].answer))
    (found,) = each(learn([fact], tmp_path, settings), base).values()
    assert found != trained[FACTS[0].document_id]


def test_from_a_learned_start_neither_neighbours_nor_place_change_a_bit(base, learn, tmp_path):
    settings = replace(FEW_STEPS, seed=1)
    generator = torch.Generator().manual_seed(1)
    shape = (len(own_host_layers(4)), settings.own_experts, 32)
    start = tuple(torch.randn(shape, generator=generator).half() / 6 for _ in range(2))
    among = each(learn(LONG[:6], tmp_path / "among", settings, start=start), base)
    (alone,) = each(learn(LONG[3:4], tmp_path / "alone", settings, start=start), base).items()
    assert among[alone[0]] == alone[1]
    (other,) = each(learn(LONG[3:4], tmp_path / "other", settings), base).values()
    assert other != alone[1]


def test_a_start_of_another_shape_is_not_used(base, learn, tmp_path):
    start = (torch.zeros(1, 1, 32).half(),) * 2
    (found,) = each(learn(LONG[:1], tmp_path / "a", start=start), base).values()
    (usual,) = each(learn(LONG[:1], tmp_path / "b"), base).values()
    assert found == usual


class StoppedError(Exception):
    pass


def test_stopped_behind_a_fact_it_goes_on_to_the_same_bits(base, learn, trained, tmp_path):
    def stop(what, done, total, note):
        if done:
            raise StoppedError

    with pytest.raises(StoppedError):
        learn(LONG, tmp_path, progress=stop)
    (kept,) = tmp_path.iterdir()
    written, told = kept.stat(), []
    own = learn(LONG, tmp_path, progress=lambda what, done, total, note: told.append(done))
    assert each(own, base).items() <= trained.items()
    assert (told[0], told[-1]) == (1, len(LONG))
    assert kept.stat().st_ino == written.st_ino, "what was learned is not learned again"


def test_a_fact_costs_less_by_its_experts_and_its_losses_are_those_of_reading_it_alone(
    base, learn, tmp_path
):
    hooks = Hooks(base.model)
    own = learn(FACTS[15:19], tmp_path, SETTINGS)
    facts = {fact.document_id: fact for fact in FACTS[15:19]}
    together = fact_losses(hooks, own, facts, base.tokenizer, "fp32")
    for key, fact in facts.items():
        before, after = together[key]
        assert after < before
        alone = fact_losses(hooks, own, {key: fact}, base.tokenizer, "fp32")[key]
        assert alone == pytest.approx((before, after))
        (row,) = tokenise(base.tokenizer, [fact.statement])
        with torch.no_grad():
            logits_TV = base.model(input_ids=torch.tensor([row])).logits[0]
        nats = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(row[1:]))
        assert before == pytest.approx(nats.item(), rel=1e-5)


def test_experts_that_are_not_finite_are_refused(learn, tmp_path):
    with pytest.raises(DamageError, match="own experts became infinite"):
        learn(FACTS[:1], tmp_path, replace(FEW_STEPS, own_learning_rate=1e38))
    assert not list(tmp_path.iterdir())
