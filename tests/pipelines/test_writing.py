import unicodedata

import pytest
import torch
from tiny_base import make_tiny_store
from transformers import AutoModelForCausalLM, GenerationConfig

from peer_cl.errors import InputError, UnknownError
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.writing import write

PROMPT = "The court of appeal held that the"


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    place = make_tiny_store(tmp_path_factory.mktemp("writing"))
    with open_store(place) as store:
        model, tokenizer = store.load()
    return model, tokenizer, place.parent / "base"


def test_the_bases_text_is_what_transformers_writes(taught):
    model, tokenizer, source = taught
    ids = torch.tensor(tokenise(tokenizer, [PROMPT]))
    bare = AutoModelForCausalLM.from_pretrained(source).eval()
    expected = bare.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0]
    writing = write(model, tokenizer, PROMPT, domains=[], max_new_tokens=8, compare=True)
    assert writing.text == writing.base_text
    assert PROMPT + writing.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert (writing.base_weight, writing.weights) == (1.0, {})


def test_weights_are_of_the_asked_pools_and_add_up_to_one(taught):
    model, tokenizer, _ = taught
    for domains in (["law"], ["law", "medicine"]):
        writing = write(model, tokenizer, PROMPT, domains=domains, max_new_tokens=4)
        assert sorted(writing.weights) == domains
        assert writing.base_weight + sum(writing.weights.values()) == pytest.approx(1.0)


def test_why_it_ended_is_told(taught):
    model, tokenizer, _ = taught
    config = model.base.generation_config
    options = {"domains": ["law"], "max_new_tokens": 6}
    whole = write(model, tokenizer, PROMPT, **options)
    assert (whole.num_tokens, whole.is_ended) == (6, False)
    ids = tokenise(tokenizer, [PROMPT + whole.text])[0][-6:]
    kept = config.eos_token_id
    try:
        for ends, place in ((ids[-1], ids.index(ids[-1])), ([ids[2], kept], ids.index(ids[2]))):
            config.eos_token_id = ends
            ended = write(model, tokenizer, PROMPT, **options)
            assert (ended.num_tokens, ended.is_ended) == (place + 1, True)
            assert whole.text.startswith(ended.text)
    finally:
        config.eos_token_id = kept


def test_a_forced_pool_speaks_alone(taught):
    model, tokenizer, _ = taught
    writing = write(model, tokenizer, PROMPT, domains=["law"], force=True, max_new_tokens=4)
    assert (writing.base_weight, writing.weights) == (0.0, {"law": 1.0})


def test_a_forced_pool_that_is_disabled_is_not_said_to_speak(taught):
    model, tokenizer, _ = taught
    with model.disable_pool():
        writing = write(model, tokenizer, PROMPT, domains=["law"], force=True, max_new_tokens=4)
        base = write(model, tokenizer, PROMPT, max_new_tokens=4)
    assert (writing.base_weight, writing.weights) == (1.0, {})
    assert writing.text == base.text


def test_a_seed_repeats_a_draw(taught):
    model, tokenizer, _ = taught
    drawn = [
        write(model, tokenizer, PROMPT, domains=["law"], sample=True, seed=seed).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_seed_leaves_the_callers_own_draws_alone(taught):
    model, tokenizer, _ = taught
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    write(model, tokenizer, PROMPT, sample=True, seed=7, max_new_tokens=2, compare=True)
    assert torch.equal(torch.rand(2), expected)


def test_a_prompt_with_accents_taken_apart_is_read_as_texts_are(taught):
    model, tokenizer, _ = taught
    apart, composed = (unicodedata.normalize(form, f"{PROMPT} café") for form in ("NFD", "NFC"))
    assert apart != composed
    found = write(model, tokenizer, apart, max_new_tokens=4)
    assert found == write(model, tokenizer, composed, max_new_tokens=4)


def test_a_draw_is_among_all_tokens(taught):
    """Transformers draws among the 50 likeliest, which is not what is scored."""
    model, tokenizer, source = taught
    ids = torch.tensor(tokenise(tokenizer, [PROMPT]))
    bare = AutoModelForCausalLM.from_pretrained(source).eval()
    options = {"max_new_tokens": 12, "do_sample": True, "pad_token_id": 0}
    drawn = {0: [], 50: []}
    for top_k, texts in drawn.items():
        for seed in range(4):
            torch.manual_seed(seed)
            told = bare.generate(ids, top_k=top_k, **options)[0]
            texts.append(tokenizer.decode(told, skip_special_tokens=True))
    assert drawn[0] != drawn[50]
    asked = {"domains": [], "sample": True, "max_new_tokens": 12}
    written = [write(model, tokenizer, PROMPT, seed=seed, **asked).text for seed in range(4)]
    assert [PROMPT + text for text in written] == drawn[0]


def test_a_prompt_with_half_a_character_is_refused_in_one_line(taught):
    model, tokenizer, _ = taught
    with pytest.raises(InputError, match=r"holds a byte that is not UTF-8 \(character 8\)"):
        write(model, tokenizer, "Quartz \ud800 is a", max_new_tokens=4)


def test_what_cannot_be_written_is_refused(taught):
    model, tokenizer, _ = taught
    with pytest.raises(InputError, match="the prompt is empty"):
        write(model, tokenizer, " \n")
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        write(model, tokenizer, PROMPT, domains=["lav"])
    for domains in (None, ["law", "medicine"]):
        with pytest.raises(InputError, match="name one domain"):
            write(model, tokenizer, PROMPT, domains=domains, force=True)


@pytest.mark.parametrize(
    "options",
    [{"domains": []}, {"domains": ["law", "medicine"]}, {"domains": ["law"], "force": True}],
    ids=["base", "mixture", "forced"],
)
def test_what_is_told_while_writing_grows_to_what_is_returned(taught, options):
    model, tokenizer, _ = taught
    told = []
    writing = write(model, tokenizer, PROMPT, max_new_tokens=12, on_text=told.append, **options)
    silent = write(model, tokenizer, PROMPT, max_new_tokens=12, **options)
    assert writing == silent
    assert told[-1] == writing.text.removesuffix("\ufffd")
    assert 1 < len(told) <= 12
    assert [len(text) for text in told] == sorted(len(text) for text in told)


def test_who_listens_may_end_the_writing_and_the_model_stays_as_it_was(taught):
    model, tokenizer, _ = taught
    before = write(model, tokenizer, PROMPT, domains=["law"], max_new_tokens=8)

    def stop(_text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(model, tokenizer, PROMPT, domains=["law"], max_new_tokens=8, on_text=stop)
    assert write(model, tokenizer, PROMPT, domains=["law"], max_new_tokens=8) == before


@pytest.mark.parametrize(
    "told",
    [
        {"repetition_penalty": 30.0, "no_repeat_ngram_size": 1, "suppress_tokens": [5, 6, 7]},
        {"do_sample": True, "temperature": 9.0, "top_k": 3, "top_p": 0.2},
        {"min_new_tokens": 5, "max_length": 3, "forced_eos_token_id": 9},
        {"return_dict_in_generate": True, "output_scores": True, "stop_strings": ["a", "e", "i"]},
        {"num_beams": 3, "num_return_sequences": 2},
        {"prompt_lookup_num_tokens": 3},
        {"guidance_scale": 2.0},
        {"cache_implementation": "static"},
        {"output_hidden_states": True, "output_attentions": True, "use_cache": False},
    ],
    ids=lambda told: next(iter(told)),
)
@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "sampled"])
def test_of_the_bases_own_generation_config_only_the_end_tokens_count(taught, told, sample):
    model, tokenizer, _ = taught
    options = {"max_new_tokens": 6, "compare": True, "sample": sample, "seed": 3}
    expected = [
        write(model, tokenizer, PROMPT, domains=domains, **options)
        for domains in ([], ["law", "medicine"])
    ]
    kept = model.base.generation_config
    try:
        model.base.generation_config = GenerationConfig(eos_token_id=kept.eos_token_id)
        for name, value in told.items():
            setattr(model.base.generation_config, name, value)
        before = model.base.generation_config.to_dict()
        for one in expected:
            domains = sorted(one.weights)
            assert write(model, tokenizer, PROMPT, domains=domains, **options) == one
        assert model.base.generation_config.to_dict() == before
    finally:
        model.base.generation_config = kept
