"""Making a store: what it holds, what is refused, and statistics that are made once."""

import pytest
import torch
from tiny_base import background, make_tiny_base

from peer_cl.bases import load_base
from peer_cl.errors import CorpusError, InputError, StateError, StoreFormatError
from peer_cl.hooks import Hooks
from peer_cl.router import Background
from pipelines import init, init_store, relations
from pipelines.encoder import MINILM
from pipelines.init import SHIPPED_STATISTICS, background_statistics, spread_layers
from pipelines.keys import BEGINNING_TOKENS


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_base(tmp_path_factory.mktemp("base"))


def make(folder, source, **changes):
    usual = {"base": str(source), "encoder": MINILM, "background": background(), "author": "ann"}
    return init_store(folder, **{**usual, **changes})


def test_a_new_store_is_empty_and_says_what_it_stands_on(base, tmp_path):
    with make(tmp_path / "knowledge", base, capacity=4) as store:
        config = store.registry.config
        assert config.base_id == str(base.absolute())
        assert (config.num_layers, config.width, config.host_layers) == (4, 32, (0, 1, 2, 3))
        assert (config.state_layer, config.capacity) == (2, 4)
        assert store.registry.queries.live().domains == ()
        (event,) = store.registry.queries.events()
        assert (event.action, event.author) == ("create", "ann")
        kept = Background.from_bytes(store.registry.objects.read(config.background_object))
        assert len(kept.beginnings) == len(background())
        assert max(map(len, kept.beginnings)) <= BEGINNING_TOKENS


def test_the_lowest_tenth_of_layers_gets_no_experts():
    assert spread_layers(30) == tuple(range(3, 30))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"background": ["one"]}, CorpusError, "at least 2 texts, not 1"),
        ({"budget": 1.0}, InputError, "budget must lie between"),
        ({"capacity": 0}, InputError, "capacity must be at least 1"),
        ({"host_layers": (1, 9)}, InputError, "within the base's 4 layers"),
        ({"base": "./nowhere"}, InputError, "there is no folder"),
    ],
)
def test_what_cannot_be_made_leaves_no_store(base, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        make(tmp_path / "knowledge", base, **change)
    assert not (tmp_path / "knowledge" / "store.toml").exists()


def test_a_store_is_never_made_over_something_else(base, tmp_path):
    make(tmp_path / "knowledge", base).close()
    with pytest.raises(StoreFormatError, match="there is a store in"):
        make(tmp_path / "knowledge", base)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StateError, match="not an empty folder"):
        make(tmp_path, base)


def test_statistics_are_made_once_for_a_base_and_texts(base, tmp_path, monkeypatch):
    monkeypatch.setattr(init, "statistics_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(relations, "NUM_PROMPTS", 400)
    loaded = load_base(str(base))
    hooks = Hooks(loaded.model)
    told = []

    def statistics(texts):
        told.clear()
        return background_statistics(loaded, hooks, texts, lambda what, *_: told.append(what))

    made = statistics(background())
    assert set(told) == {"reading background text", "reading background prompts"}
    known = statistics(background()[::-1])  # the order of texts says nothing
    assert not told
    assert known.to_bytes() == made.to_bytes()
    (file,) = (tmp_path / "cache").iterdir()
    assert Background.from_bytes(file.read_bytes()).beginnings == ()  # numbers, no text
    file.write_bytes(b"cut off")
    assert statistics(background()).to_bytes() == made.to_bytes()
    assert statistics(background()[1:]).to_bytes() != made.to_bytes()
    assert told
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_default_bases_statistics_come_with_the_project():
    (file,) = SHIPPED_STATISTICS.glob("background-*.safetensors")
    shipped = Background.from_bytes(file.read_bytes())
    assert shipped.mean_D.shape == (576,)
    assert shipped.beginnings == ()
    assert len(shipped.held_lengths) == 128
    assert shipped.relations is not None
    assert torch.isfinite(shipped.held_XD).all()
    assert file.stat().st_size < 7e6


@pytest.mark.smollm2
def test_a_store_on_the_default_base_needs_no_reading(tmp_path):
    told = []
    with init_store(tmp_path / "knowledge", progress=lambda what, *_: told.append(what)) as store:
        assert not [what for what in told if what.startswith("reading")]
        kept = store.registry.objects.read(store.registry.config.background_object)
        assert len(Background.from_bytes(kept).beginnings) == 500
