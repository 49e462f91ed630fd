"""A trial learns one domain with what was changed, and says the same as the stream's pieces."""

import functools
from dataclasses import replace

import pytest
from tiny_stream import SETTINGS, tiny_workshop

from benchmarks import trial
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.matrices import FORCED, Scores
from benchmarks.stream.plan import plan
from peer_cl.errors import InputError, UnknownError
from pipelines import open_store
from pipelines.settings import TrainingSettings

NAMES = ("law", "minerals")
METHODS = ("peer", "lora-lower")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = tiny_workshop(tmp_path_factory.mktemp("trial"))
    planned = functools.partial(plan, seeds=[0], methods=METHODS, with_tuning=False)
    do_missing(shop, planned, float("inf"))
    return shop


def figures_of(shop, folder, **changes):
    changed = replace(shop, work=folder, empties=shop.work, **changes)
    return {one.figure: one.value for one in trial.tried(changed, "law")}


def test_without_a_change_it_says_what_the_stream_does(shop, tmp_path):
    rate = shop.raw.read("peer/s0/0-law")["learning_rate"]
    settings = replace(SETTINGS, row_learning_rate=rate)
    found = figures_of(shop, tmp_path, settings=settings)
    scores = Scores(shop.raw, NAMES)
    own, theirs = scores.losses("peer", 0, FORCED), scores.losses("lora-lower", 0)
    loss = found["unseen loss, pool forced on (nats a token)"]
    assert loss == pytest.approx(own[-1][0], abs=1e-4)
    share = (own[0][0] - loss) / (own[0][0] - theirs[1][0])
    name = "gain over lora-lower's, right after learning (share)"
    assert found[name] == pytest.approx(share, abs=1e-3)
    added = scores.added(shop.raw.read("peer/s0/0-law")["nats"], "prose")
    assert found["added to all prose, pool always on (nats a token)"] == pytest.approx(
        added, abs=1e-4
    )
    gains = sum(value for figure, value in found.items() if figure.startswith("gain from token"))
    num_documents = len(shop.texts["test/law"])
    num_tokens = sum(len(ids) - 1 for ids in shop.texts["test/law"])
    assert gains * num_documents == pytest.approx((own[0][0] - loss) * num_tokens, rel=1e-4)


def test_host_layers_and_shape_are_the_pools(shop, tmp_path):
    settings = trial.changed(SETTINGS, ["num_experts=25", "top_k=4"])
    figures_of(shop, tmp_path, settings=settings, host_layers=[1, 3])
    with open_store(tmp_path / "trial") as store:
        version = store.registry.live().state("law").version
        chain = store.registry.chain(version)
        assert [list(one.host_layers) for one in chain] == [[1, 3]]
        assert [one.num_experts for one in chain] == [50]


def test_other_settings_of_training_are_not_set_beside_lora(shop, tmp_path):
    found = figures_of(shop, tmp_path, settings=replace(SETTINGS, fact_passes=2.0))
    assert not any("lora" in figure for figure in found)


@pytest.mark.parametrize(
    ("said", "error", "part"),
    [
        ("kl_weight", InputError, "NAME=VALUE, not 'kl_weight'"),
        ("kl_wieght=1", UnknownError, "Did you mean 'kl_weight'"),
        ("num_experts=-4", InputError, "num_experts must be positive"),
        ("precision=half", InputError, "'half'"),
    ],
)
def test_what_cannot_be_set_is_said(said, error, part):
    with pytest.raises(error, match=part):
        trial.changed(TrainingSettings(), [said])
