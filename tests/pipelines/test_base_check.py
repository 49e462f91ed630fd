"""A base that has its old weights and computes something else is refused."""

import json

import pytest
import torch
from tiny import VOCABULARY, make_base
from tiny_base import copy_store, make_tiny_store

from peer_cl import PeerModel
from peer_cl.errors import BaseMismatchError
from pipelines import open_store
from pipelines.base_check import FARTHEST, change_in_ordinary, check_computes
from pipelines.ordinary import EARLY, NUM_TOKENS, OrdinaryText, read_ordinary
from pipelines.progress import no_progress


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("base-check"))


@pytest.fixture
def place(good, tmp_path):
    return copy_store(good, tmp_path)


def configure(place, **changes):
    path = place.parent / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def texts(num=40, lengths=(6, 20, 33)):
    draw = torch.Generator().manual_seed(7)
    return [
        (0, *torch.randint(2, VOCABULARY, (lengths[n % len(lengths)],), generator=draw).tolist())
        for n in range(num)
    ]


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"rms_norm_eps": 10.0}])
def test_another_config_beside_the_same_weights_is_refused(place, change):
    configure(place, **change)
    with (
        open_store(place) as store,
        pytest.raises(BaseMismatchError, match=r"computes something else: layer \d+ reads .*%"),
    ):
        store.load()


def test_what_another_version_of_transformers_writes_is_not(place):
    configure(place, transformers_version="4.1.0", use_cache=False, dtype="bfloat16")
    with open_store(place) as store:
        store.load()


def test_a_store_that_lost_its_ordinary_text_still_loads(place):
    with open_store(place) as store:
        store.registry.objects.path(store.registry.config.ordinary_object).unlink()
        model, _ = store.load()
        assert model.pools


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_base_is_the_same_in_either_precision(precision):
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    ordinary = read_ordinary(model.attachment, texts(), (1, 3), no_progress, precision=precision)
    change = change_in_ordinary(model.attachment, ordinary)
    assert set(change) == {1, 3}
    assert all(0 < one < (1e-3 if precision == "fp32" else FARTHEST) for one in change.values())


def test_kept_tokens_are_named_by_text_and_place():
    """Where there are more tokens than are kept, as in every real store."""
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    rows = texts(num=220)
    ordinary = read_ordinary(model.attachment, rows, (1, 3), no_progress, precision="fp32")
    kept = ordinary.kept()
    assert sorted(n for own in kept.values() for n in own.values()) == list(range(NUM_TOKENS))
    assert sum(place <= EARLY for own in kept.values() for place in own) == NUM_TOKENS // 2
    read = []
    handle = model.base.model.layers[3].mlp.register_forward_pre_hook(
        lambda _, args: read.append(args[0].clone())
    )
    with torch.no_grad():
        for text in (0, 1, 2, 219):
            model.base(input_ids=torch.tensor([rows[text]]))
    handle.remove()
    for text, states in zip((0, 1, 2, 219), read, strict=True):
        for place, number in kept[text].items():
            torch.testing.assert_close(
                ordinary.inputs[3][number].float(), states[0, place], atol=2e-3, rtol=2e-3
            )


def test_nothing_is_compared_where_nothing_is_kept():
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    inputs = {1: torch.ones(3, 32).half(), 3: torch.ones(3, 32).half()}
    assert change_in_ordinary(model.attachment, OrdinaryText(inputs)) == {}


def test_what_half_precision_had_no_room_for_is_not_compared():
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    ordinary = read_ordinary(model.attachment, texts(), (1, 3), no_progress, precision="fp32")
    ordinary.inputs[3][::2, 0] = torch.inf
    assert 0 < change_in_ordinary(model.attachment, ordinary)[3] < 1e-3


def test_what_is_no_number_is_refused():
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    ordinary = read_ordinary(model.attachment, texts(), (1, 3), no_progress, precision="fp32")
    with torch.no_grad():
        model.base.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(BaseMismatchError, match="layer 3"):
        check_computes(model.attachment, ordinary, "it")
