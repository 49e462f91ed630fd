import unicodedata

import pytest
import torch
from transformers import AutoModelForCausalLM

from peer_cl.errors import InputError, UnknownError
from pipelines.batches import tokenise
from pipelines.writing import write

PROMPT = "The court of appeal held that the"


@pytest.fixture(scope="module")
def loaded(measured):
    return measured[0].load()


@pytest.fixture(scope="module")
def bare(measured):
    return AutoModelForCausalLM.from_pretrained(measured[0].registry.config.base_id).eval()


def by_transformers(bare, tokenizer, **options):
    ids = torch.tensor(tokenise(tokenizer, [PROMPT]))
    written = bare.generate(ids, max_new_tokens=8, pad_token_id=0, **options)[0]
    return tokenizer.decode(written, skip_special_tokens=True).removeprefix(PROMPT)


def test_the_bases_text_is_what_transformers_writes(loaded, bare):
    writing = write(*loaded, PROMPT, domains=[], max_new_tokens=8, compare=True)
    expected = by_transformers(bare, loaded[1], do_sample=False)
    assert writing.text == writing.base_text == expected
    assert (writing.writer, writing.base_weight, writing.weights) == ("base", 1.0, {})


def test_the_heaviest_branch_writes(loaded):
    model, tokenizer = loaded
    for domains in (["law"], ["law", "medicine"]):
        writing = write(model, tokenizer, PROMPT, domains=domains, max_new_tokens=4)
        weights = {"base": writing.base_weight, **writing.weights}
        assert sorted(writing.weights) == domains
        assert sum(weights.values()) == pytest.approx(1.0)
        assert writing.writer == max(weights, key=weights.get)
        alone = {"domains": [writing.writer], "oracle": True}
        if writing.writer == "base":
            alone = {"domains": []}
        assert write(model, tokenizer, PROMPT, max_new_tokens=4, **alone).text == writing.text


def test_with_oracle_the_named_pool_writes(loaded):
    writing = write(*loaded, PROMPT, domains="law", oracle=True, max_new_tokens=4, compare=True)
    assert (writing.writer, writing.base_weight, writing.weights) == ("law", 0.0, {"law": 1.0})
    assert writing.text != writing.base_text


def test_it_ends_by_itself_or_at_the_limit(loaded):
    model, tokenizer = loaded
    config, options = model.base.generation_config, {"domains": [], "max_new_tokens": 6}
    whole = write(model, tokenizer, PROMPT, **options)
    assert (whole.num_tokens, whole.is_ended) == (6, False)
    ids = tokenise(tokenizer, [PROMPT + whole.text])[0][-6:]
    kept = config.eos_token_id
    try:
        config.eos_token_id = [ids[2], kept]
        ended = write(model, tokenizer, PROMPT, **options)
    finally:
        config.eos_token_id = kept
    assert (ended.num_tokens, ended.is_ended) == (ids.index(ids[2]) + 1, True)


def test_a_seed_repeats_a_draw_and_leaves_the_callers_own_alone(loaded):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = [write(*loaded, PROMPT, sample=True, seed=seed).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.rand(2), expected)


def test_the_bases_own_settings_change_nothing(loaded, bare):
    model, tokenizer = loaded
    config, options = model.base.generation_config, {"domains": [], "max_new_tokens": 8}
    before = config.to_dict()
    try:
        config.update(repetition_penalty=5.0, temperature=0.1, top_k=1, top_p=0.1, num_beams=3)
        greedy = write(model, tokenizer, PROMPT, **options)
        drawn = write(model, tokenizer, PROMPT, sample=True, seed=3, **options)
    finally:
        config.update(**before)
    assert greedy.text == by_transformers(bare, tokenizer, do_sample=False)
    assert drawn == write(model, tokenizer, PROMPT, sample=True, seed=3, **options)


def test_draws_follow_the_posterior(loaded):
    model, tokenizer = loaded
    options = {"domains": ["law"], "sample": True, "max_new_tokens": 1}
    model.prior, prior = 0.5, model.prior
    try:
        weight = write(model, tokenizer, PROMPT, **options).weights["law"]
        writers = [write(model, tokenizer, PROMPT, seed=s, **options).writer for s in range(60)]
    finally:
        model.prior = prior
    share = writers.count("law") / len(writers)
    assert share == pytest.approx(weight, abs=4 * (weight * (1 - weight) / 60) ** 0.5)


@pytest.mark.parametrize("options", [{"domains": []}, {"domains": ["law"], "oracle": True}])
def test_the_text_so_far_grows_to_the_text(loaded, options):
    heard = []
    writing = write(*loaded, PROMPT, max_new_tokens=12, on_text=heard.append, **options)
    assert writing == write(*loaded, PROMPT, max_new_tokens=12, **options)
    assert heard[-1] == writing.text.removesuffix("\ufffd")
    assert [len(text) for text in heard] == sorted(len(text) for text in heard)


def test_accents_are_composed_as_in_learned_texts(loaded):
    apart, composed = (unicodedata.normalize(form, f"{PROMPT} café") for form in ("NFD", "NFC"))
    assert apart != composed
    found = write(*loaded, apart, max_new_tokens=4)
    assert found == write(*loaded, composed, max_new_tokens=4)


def test_mistakes_are_refused(loaded):
    with pytest.raises(InputError, match="the prompt is empty"):
        write(*loaded, " \n")
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        write(*loaded, PROMPT, domains=["lav"])
    for domains in (None, ["law", "medicine"]):
        with pytest.raises(InputError, match="name one"):
            write(*loaded, PROMPT, domains=domains, oracle=True)
    with pytest.raises(InputError, match="context is 512"):
        write(*loaded, PROMPT, max_new_tokens=512)
