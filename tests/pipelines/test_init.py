"""Where a store is made: its objects may lie elsewhere, and what cannot be is refused early."""

import uuid

import pytest
import torch
from tiny_base import (
    background,
    make_tiny_base,
    sentences,
    store_logits,
    tiny_settings,
    write_corpus,
)

from peer_cl.errors import InputError, StateError
from pipelines import init, init_store, open_store
from pipelines.verify import verify

TEXT = sentences("law", 1, seed=99)[0]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_base(tmp_path_factory.mktemp("init") / "base")


def learn(folder, base, corpus, **options):
    with init_store(folder, base=str(base), background=background(), **options) as store:
        store.ingest("law", corpus, settings=tiny_settings())
        return store_logits(store, TEXT)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_whose_objects_lie_elsewhere_knows_the_same_to_the_bit(
    base, tmp_path, kind, monkeypatch
):
    monkeypatch.setattr("stores.places.MEMORY", None)  # within one process it is as a bucket
    place = {
        "memory": f"memory://{uuid.uuid4().hex}/objects",
        "file": f"file://{tmp_path}/elsewhere",
    }[kind]
    corpus = write_corpus(tmp_path / "law.jsonl", "law")
    expected = learn(tmp_path / "plain", base, corpus)
    assert torch.equal(learn(tmp_path / "k", base, corpus, objects_url=place), expected)
    with open_store(tmp_path / "k", who="ann") as store:
        assert store.registry.config.objects_url == place
        assert store.registry.objects.place == place
        assert not list((tmp_path / "k" / "objects").iterdir())
        assert torch.equal(store_logits(store, TEXT), expected)
        assert verify(store).is_good
        store.roll_back("law", out=True)
        assert store.purge("law").num_objects
        kept = {store.registry.config.background_object, store.registry.config.ordinary_object}
        assert set(store.registry.objects.ids()) == kept
    with pytest.raises(StateError, match=r"already; choose an empty|is not an empty folder"):
        init_store(tmp_path / "other", base=str(base), background=background(), objects_url=place)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_init_that_was_interrupted_may_be_done_again(base, tmp_path, monkeypatch, kind):
    place = {
        "memory": f"memory://{uuid.uuid4().hex}/objects",
        "file": f"file://{tmp_path}/elsewhere",
    }[kind]
    monkeypatch.setattr("stores.places.MEMORY", None)  # within one process it is as a bucket
    options = {"base": str(base), "background": background(), "objects_url": place}

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.init.Registry.create", interrupt)
        with pytest.raises(KeyboardInterrupt):
            init_store(tmp_path / "k", **options)
    with init_store(tmp_path / "k", **options) as store:
        assert verify(store).is_good
        assert len(list(store.registry.objects.ids())) == 2
    with pytest.raises(StateError, match=r"already; choose an empty|is not an empty folder"):
        init_store(tmp_path / "other", **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name_odds": -1.0}, "name_odds must be 0 or more, not -1"),
        ({"name_odds": float("nan")}, "name_odds must be 0 or more, not nan"),
        ({"host_layers": (3, 3)}, r"host layers must be ascending, not \[3, 3\]"),
        ({"background": ["one text"]}, "need at least 2 texts, not 1"),
        ({"background": "one text"}, r"a list of texts, not one text: give \[text"),
        ({"objects_url": "here"}, "objects lie at a URL such as"),
        ({"objects_url": "memory://x"}, "gone when this process ends"),
        ({"database_url": "postgresql://ann:secret@host/name"}, "leave it to PGPASSFILE"),
        ({"database_url": "sqlite:///here"}, "in SQLite or PostgreSQL, not in 'sqlite'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_base_is_loaded(tmp_path, monkeypatch, options, told):
    monkeypatch.setattr(init, "load_base", None)
    with pytest.raises(InputError, match=told):
        init_store(tmp_path / "k", base="none", **{"background": background(), **options})
    assert not (tmp_path / "k").exists()
