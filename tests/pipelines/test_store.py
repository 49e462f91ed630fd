"""A store's verbs as Python users meet them: they say what the command line says."""

import pytest
from filled_store import grow, new_store
from tiny_base import background, make_tiny_base

from peer_cl.errors import InputError, StateError, UnknownError
from pipelines import init_store, open_store, pad, tokenise


@pytest.fixture
def filled(tmp_path):
    """A store with law at v2 and medicine at v1, open."""
    place = new_store(tmp_path / "knowledge")
    for domain in ("law", "medicine", "law"):
        grow(place, domain)
    with open_store(place, who="ann") as opened:
        yield opened


def test_roll_back_goes_one_version_back_and_never_out_unasked(filled):
    assert filled.roll_back("law").state("law").label == "v1"
    before = filled.registry.live()
    with pytest.raises(StateError, match=r"law is at v1, its first version; .*out=True"):
        filled.roll_back("law")
    with pytest.raises(StateError, match="its first version"):
        filled.roll_back("law", None, "None is no way out")
    with pytest.raises(InputError, match="out of the store and to version 'v1'"):
        filled.roll_back("law", "v1", out=True)
    assert filled.registry.live() == before
    filled.roll_back("law", out=True)
    grow(filled.registry.folder, "law")
    with pytest.raises(StateError, match=r"law is at v3, which grew on no other .*--to SNAPSHOT"):
        filled.roll_back("law")
    assert filled.roll_back("law", why="wrong corpus", out=True).state("law") is None
    with pytest.raises(StateError, match="domain 'law' is not live: it was taken out"):
        filled.roll_back("law")
    with pytest.raises(UnknownError, match="no domain 'lwa'"):
        filled.roll_back("lwa")


def test_roll_back_goes_to_a_version(filled):
    grow(filled.registry.folder, "law")
    assert filled.roll_back("law", "v1").state("law").label == "v1"


def test_prompts_of_different_lengths_are_one_batch_as_the_readme_shows(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    with init_store(tmp_path / "k", base=str(base), background=background()) as store:
        model, tokenizer = store.load()
    rows = tokenise(tokenizer, ["The court held", "A fever with a rash is"])
    assert len(rows[0]) < len(rows[1])
    prompts, mask = pad(rows, tokenizer.eos_token_id)
    together = model.generate(prompts, attention_mask=mask, max_new_tokens=3)
    assert together.shape == (2, len(rows[1]) + 3)
    (alone,) = model.generate(prompts[:1, : len(rows[0])], max_new_tokens=3)
    assert together[0, -len(alone) :].tolist() == alone.tolist()
    model.detach()


def test_why_a_stores_base_cannot_be_loaded_is_told(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    with init_store(tmp_path / "k", base=str(base), background=background()) as store:
        weights = base / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:500])
        with pytest.raises(
            StateError, match=r"the same model there again .*SafetensorError"
        ) as got:
            store.load()
        weights.rename(base / "pytorch_model.bin")
        with pytest.raises(StateError, match=r"the reason: the weights in .* are pickled"):
            store.load()
    assert "\n" not in str(got.value)
