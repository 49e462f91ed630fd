"""A trial learns one domain with what was changed, and reads what no figure of the stream reads."""

import functools
from dataclasses import replace

import pytest
from tiny_stream import SETTINGS, tiny_workshop

from benchmarks import trial
from benchmarks.stream import pools
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.plan import plan
from peer_cl.errors import InputError, UnknownError
from pipelines import open_store
from pipelines.settings import TrainingSettings


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = tiny_workshop(tmp_path_factory.mktemp("trial"))
    planned = functools.partial(plan, seeds=[0], methods=["peer"], with_tuning=False)
    do_missing(shop, planned, float("inf"))
    return shop


def figures_of(shop, folder, **changes):
    changed = replace(shop, work=folder, empties=shop.work, **changes)
    return {one.figure: one.value for one in trial.tried(changed, "law")}


def test_without_a_change_it_learns_the_streams_pool_and_reads_other_texts(shop, tmp_path):
    rate = shop.raw.read("peer/s0/0-law")["learning_rate"]
    found = figures_of(shop, tmp_path, settings=replace(SETTINGS, row_learning_rate=rate))
    with open_store(tmp_path / "trial") as own, shop.stores("peer-s0") as stores:
        (branches, _), (others, _) = (pools.load(some, ["law"]) for some in ([own], stores))
    (segment,), (other,) = (one.segments["law"] for one in (branches, others))
    assert segment.sha256() == other.sha256()
    read, told = shop.spare("law"), {ids for rows in shop.texts.values() for ids in rows}
    assert read.keys() == {"spare/law", "prose/rain"}
    assert all(read.values())
    assert not told & {ids for rows in read.values() for ids in rows}
    assert not {row.ids for row in shop.prepared["law"].rows} & set(read["spare/law"])
    gains = sum(value for figure, value in found.items() if figure.startswith("gain from token"))
    rows, base = read["spare/law"], found["unseen loss, base (nats a token)"]
    gain = base - found["unseen loss, pool forced on (nats a token)"]
    num_tokens = sum(len(ids) - 1 for ids in rows)
    assert gain > 0
    assert gains * len(rows) == pytest.approx(gain * num_tokens, rel=1e-4)


def test_host_layers_and_shape_are_the_pools(shop, tmp_path):
    settings = trial.changed(SETTINGS, ["num_experts=25", "top_k=4"])
    figures_of(shop, tmp_path, settings=settings, host_layers=[1, 3])
    with open_store(tmp_path / "trial") as store:
        version = store.registry.live().state("law").version
        chain = store.registry.chain(version)
        assert [list(one.host_layers) for one in chain] == [[1, 3]]
        assert [one.num_experts for one in chain] == [50]


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
