import pytest
import torch
from signed import sign, text_of
from tiny import make_base, teach
from transformers import AutoConfig, GenerationConfig, RepetitionPenaltyLogitsProcessor

from peer_cl import PeerCache, generation
from peer_cl.attach import pool_segments
from peer_cl.branches import run_base, run_branch
from peer_cl.choice import Choice
from peer_cl.errors import InputError, StateError, UnknownError, UnsupportedError
from peer_cl.held import Held, mix_last
from peer_cl.mixture import log_weights

GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_no_pool_asked_gives_the_bare_models_tokens_and_logits(
    architecture, ids, make_model, guidance
):
    base = make_base(architecture)
    options = {**GREEDY, "output_logits": True, "return_dict_in_generate": True}
    expected = base.generate(ids, **options)
    model = make_model(architecture)
    found = model.generate(ids, domains=[], guidance_scale=guidance, **options)
    assert torch.equal(found.sequences, expected.sequences)
    for ours, theirs in zip(found.logits, expected.logits, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_held_base_weight_above_099_gives_the_bases_bits(architecture, ids, make_model, guidance):
    base = make_base(architecture)
    options = {**GREEDY, "output_logits": True, "return_dict_in_generate": True}
    expected = base.generate(ids, **options)
    # A share of 0.0025 for pools that fit the text no better than the base: it stays above 0.99.
    model = make_model(architecture, budget=0.02)
    for name in ("a", "b"):
        teach(model, name, seed=3, scale=0.01)
    found = model.generate(ids, domains=["a", "b"], guidance_scale=guidance, **options)
    assert torch.equal(found.sequences, expected.sequences)
    for ours, theirs in zip(found.logits, expected.logits, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"domains": ["a", "b"]},
        {"domains": ["b"], "force": True},
        {"domains": ["a", "b"], "num_beams": 3},
        {"domains": ["a"], "force": True, "num_beams": 2, "num_return_sequences": 2},
        {"domains": ["a", "b"], "guidance_scale": 1.5},
        {"domains": ["b"], "force": True, "guidance_scale": 1.5},
    ],
    ids=["mixture", "forced", "beams", "forced beams", "guided", "forced and guided"],
)
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_cached_and_uncached_choose_the_same_tokens(
    architecture, host_layers, ids, make_model, monkeypatch, options, padding
):
    # Every branch keeps its weight, so that what is compared is a true mixture.
    monkeypatch.setattr(
        "peer_cl.generation.held_weights", lambda masses, _: (0.1 * masses).softmax(0)
    )
    model = make_model(architecture, host_layers=host_layers)
    mask = torch.ones_like(ids)
    if padding == "left":
        mask[0, :5] = mask[1, :9] = 0
    elif padding == "right":
        mask[0, 15:] = mask[1, 11:] = 0
    cached = model.generate(ids, attention_mask=mask, **GREEDY, **options)
    uncached = model.generate(ids, attention_mask=mask, use_cache=False, **GREEDY, **options)
    assert torch.equal(cached, uncached)


@pytest.mark.parametrize("told_by", ["base", "folder", "call", "none"])
def test_whoever_says_that_there_is_no_cache_the_same_is_written(
    architecture, ids, make_model, tmp_path, told_by
):
    model = make_model(architecture)
    asked = [{"domains": ["a"], "force": True}, {"domains": []}, {}]
    expected = [model.generate(ids, **one, **GREEDY) for one in asked]
    if told_by == "base":
        model.base.generation_config.use_cache = False
    elif told_by == "folder":
        model.base.config.use_cache = False
        model.base.config.save_pretrained(tmp_path)
        config = AutoConfig.from_pretrained(tmp_path)
        assert config.use_cache is False
        model.base.generation_config = GenerationConfig.from_model_config(config)
    options = {
        "call": {"generation_config": GenerationConfig(use_cache=False, **GREEDY)},
        "none": {"use_cache": None, **GREEDY},
    }.get(told_by, GREEDY)
    for one, tokens in zip(asked, expected, strict=True):
        assert torch.equal(model.generate(ids, **one, **options), tokens)
    cache = PeerCache(model.base.config, model.attachment.tap)
    assert torch.equal(model.generate(ids, cache=cache, **asked[0], **options), expected[0])


def test_a_forced_pool_changes_what_is_written(architecture, ids, make_model):
    model = make_model(architecture)
    forced = model.generate(ids, domains=["a"], force=True, **GREEDY)
    bare = model.generate(ids, domains=[], **GREEDY)
    assert not torch.equal(forced, bare)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_goes_from_the_base_through_what_the_pools_say(ids, make_model, use_cache, scale):
    model = make_model("llama")
    options = {**GREEDY, "output_logits": True, "return_dict_in_generate": True}
    asked = {**options, "domains": ["a"], "force": True, "use_cache": use_cache}
    bare, plain = model.base.generate(ids, **options), model.generate(ids, **asked)
    guided = model.generate(ids, guidance_scale=scale, **asked)
    base, pool = (one.logits[0].log_softmax(-1) for one in (bare, plain))
    expected = base + scale * (pool - base) + plain.logits[0].logsumexp(-1, keepdim=True)
    assert torch.allclose(guided.logits[0], expected, atol=1e-4)
    unguided = model.generate(ids, guidance_scale=1.0, **asked)
    assert torch.equal(unguided.logits[0], plain.logits[0])


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_pool_that_speaks_alone_gives_its_own_logits_which_a_penalty_counts_on(
    ids, make_model, use_cache
):
    model = make_model("llama")
    asked = {**GREEDY, "domains": ["a"], "force": True, "use_cache": use_cache}
    told = {"output_logits": True, "output_scores": True, "return_dict_in_generate": True}
    found = model.generate(ids, repetition_penalty=1.7, **asked, **told)
    read = run_base(model.attachment, input_ids=ids, use_cache=False)
    own = run_branch(
        model.attachment,
        pool_segments(model.pool("a")),
        read.tap_BTD,
        input_ids=ids,
        attention_mask=None,
        position_ids=torch.arange(ids.shape[1])[None],
    )[:, -1]
    assert torch.allclose(found.logits[0], own, atol=1e-4)
    penalised = RepetitionPenaltyLogitsProcessor(1.7)(ids, own)
    assert torch.allclose(found.scores[0], penalised, atol=1e-4)
    assert not torch.allclose(penalised, own, atol=1e-2)


def test_a_mixtures_logits_lie_where_its_branches_do_and_tell_its_probabilities():
    logits_QBV = 9.0 + 3.0 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    weights_QB = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.6, 1.0]], dtype=torch.float64)
    held = Held(("law",), weights_QB)
    mixed_BV = mix_last(held, logits_QBV[0], {1: logits_QBV[1, 1:]})
    probs_BV = (weights_QB[..., None] * logits_QBV.double().softmax(-1)).sum(0)
    assert torch.allclose(mixed_BV.softmax(-1).double(), probs_BV, atol=1e-6)
    levels_B = (weights_QB * logits_QBV.double().logsumexp(-1)).sum(0)
    assert torch.allclose(mixed_BV.logsumexp(-1).double(), levels_B, atol=1e-5)
    assert torch.equal(mixed_BV[0], logits_QBV[0, 0])
    broken_QBV = logits_QBV.clone()
    broken_QBV[1, 1, 3] = torch.nan
    assert mix_last(held, broken_QBV[0], {1: broken_QBV[1, 1:]})[1].isfinite().all()


def test_a_branch_that_overflowed_is_left_out_or_seen_whatever_the_other_rows_are():
    said = 3.0 * torch.randn(2, 1, 7, generator=torch.Generator().manual_seed(0))
    said[0, 0, 3] = torch.nan
    without_base = Held(("law", "medicine"), torch.tensor([[0.0], [0.5], [0.5]]).double())
    mixed_BV = mix_last(without_base, None, {1: said[0], 2: said[1]})
    assert torch.allclose(mixed_BV.softmax(-1), said[1].softmax(-1), atol=1e-6)
    alone = Held(("law",), torch.tensor([[0.0], [1.0]]).double())
    assert mix_last(alone, None, {1: said[0]}).isnan().all()
    beside = Held(("law",), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    mixed_BV = mix_last(beside, said[1].expand(2, -1), {1: said[0]})
    assert mixed_BV[0].isnan().all()
    assert torch.equal(mixed_BV[1], said[1, 0])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_guidance_that_says_nothing_is_refused(ids, make_model, scale):
    model = make_model("llama")
    with pytest.raises(
        InputError, match=f"guidance_scale must be positive and finite, not {scale}"
    ):
        model.generate(ids, domains=["a"], guidance_scale=scale, **GREEDY)
    config = GenerationConfig(guidance_scale=2.0)
    with pytest.raises(UnsupportedError, match="pass guidance_scale itself"):
        model.generate(ids, domains=["a"], generation_config=config)


def test_rows_of_one_batch_go_to_different_pools(ids, make_model, monkeypatch):
    """Each row is written as it is when it is alone with its pool."""
    model = make_model("llama", budget=0.99, capacity=2)
    alone = {
        name: model.generate(
            ids, domains=[name], **GREEDY, output_logits=True, return_dict_in_generate=True
        )
        for name in ("a", "b")
    }

    def ask(base, ids, evidence, how, lengths=None, domains=None, mask=None):
        return Choice(("a", "b"), torch.tensor([[0, -1, -1], [-1, 0, -1]]))

    monkeypatch.setattr(model, "asked", ask)
    mixed = model.generate(
        ids, domains=["a", "b"], **GREEDY, output_logits=True, return_dict_in_generate=True
    )
    bare = make_base("llama").generate(
        ids, **GREEDY, output_logits=True, return_dict_in_generate=True
    )
    assert torch.equal(mixed.sequences[0], alone["a"].sequences[0])
    assert torch.equal(mixed.sequences[1], alone["b"].sequences[1])
    assert torch.equal(mixed.sequences[2], bare.sequences[2])
    for ours, theirs in zip(mixed.logits, bare.logits, strict=True):
        assert torch.equal(ours[2], theirs[2])


def test_rows_of_one_batch_choose_their_pools_by_their_signatures(make_model, monkeypatch):
    """Nothing is told: each row asks by what it says, and is written as when it is alone."""
    model = make_model("llama", budget=0.2, capacity=2)
    sign(model)
    # Random pools earn no weight; here every pool that is asked keeps what it entered with.
    monkeypatch.setattr(generation, "held_weights", lambda masses, _: log_weights(masses).exp())
    prompts = torch.cat([text_of(name, 1, 24, seed=5) for name in ("a", "b", None)])
    asked = model.score(prompts, ask="context").entries_PBU.any(-1)
    assert asked.tolist() == [[True, False, False], [False, True, False]]
    options = {**GREEDY, "output_logits": True, "return_dict_in_generate": True}
    together = model.generate(prompts, **options)
    bare = make_base("llama").generate(prompts, **options)
    for row in range(3):
        alone = model.generate(prompts[row : row + 1], **options)
        assert torch.equal(together.sequences[row], alone.sequences[0])
    first, bare_first = together.logits[0], bare.logits[0]
    assert [torch.equal(first[row], bare_first[row]) for row in range(3)] == [False, False, True]
    for ours, theirs in zip(together.logits, bare.logits, strict=True):
        assert torch.equal(ours[2], theirs[2])


def test_a_conversation_carries_its_cache(architecture, host_layers, ids, make_model):
    """A turn that drops the base, then one that asks no pool: the base catches up."""
    model = make_model(architecture, host_layers=host_layers)
    cache = PeerCache(model.base.config, model.attachment.tap)
    first = model.generate(ids, cache=cache, domains=["a"], force=True, **GREEDY)
    longer = torch.cat([first, ids[:, :5]], 1)
    second = model.generate(longer, cache=cache, domains=[], **GREEDY)
    assert torch.equal(second, make_base(architecture).generate(longer, **GREEDY))


def test_what_the_model_wrote_is_no_evidence_in_the_next_turn(ids, make_model):
    model = make_model("llama", budget=0.9, capacity=2)
    cache = PeerCache(model.base.config, model.attachment.tap)
    first = model.generate(ids, cache=cache, domains=["a"], **GREEDY)
    longer = torch.cat([first, ids[:, :5]], 1)
    model.generate(longer, cache=cache, domains=["a"], **GREEDY)
    masked = torch.ones_like(longer)
    masked[:, ids.shape[1] : first.shape[1]] = 0
    fresh = PeerCache(model.base.config, model.attachment.tap)
    model.generate(longer, cache=fresh, domains=["a"], evidence_mask=masked, **GREEDY)
    torch.testing.assert_close(cache.masses_QB, fresh.masses_QB, atol=1e-4, rtol=0)


def test_sampling_is_repeatable(ids, make_model):
    model = make_model("llama", budget=0.9)
    options = {"domains": ["a", "b"], "do_sample": True, "max_new_tokens": 8, "top_k": 0}
    torch.manual_seed(5)
    one = model.generate(ids, **options)
    torch.manual_seed(5)
    assert torch.equal(one, model.generate(ids, **options))


def test_a_streamer_hears_every_token(ids, make_model):
    class Ear:
        heard: list[int]

        def __init__(self):
            self.heard = []

        def put(self, value):
            self.heard += value.flatten().tolist()

        def end(self):
            self.heard.append(-1)

    ear = Ear()
    model = make_model("llama")
    found = model.generate(ids[:1], domains=["a"], force=True, streamer=ear, **GREEDY)
    assert ear.heard == [*found[0].tolist(), -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "static"}, "'static' is not served"),
        ({"cache_implementation": "quantized"}, "'quantized' is not served"),
        ({"assistant_model": object()}, "assistant_model"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"cache": object()}, "pass a PeerCache"),
    ],
)
def test_caches_that_are_not_served_are_refused_clearly(ids, make_model, options, message):
    with pytest.raises(UnsupportedError, match=message):
        make_model().generate(ids, domains=["a"], **options)


def test_a_cache_that_transformers_makes_itself_is_refused_clearly(ids, make_model):
    request = generation.Request(ids, None, None, ("a",), force=True, guidance_scale=1.0)
    model = make_model()
    driver = generation.MixtureDriver(model, request, model.base.generation_config)
    with pytest.raises(UnsupportedError, match="a DynamicCache is not served: pass a PeerCache"):
        driver.generate(ids, use_cache=True, **GREEDY)


def test_a_pool_that_set_pool_left_out_is_not_silently_the_base(ids, make_model):
    model = make_model()
    model.set_pool("a")
    with pytest.raises(StateError, match="'b' is not active: set_pool left a"):
        model.generate(ids, domains=["b"], force=True)


def test_force_needs_one_domain_and_domains_must_exist(ids, make_model):
    model = make_model()
    with pytest.raises(InputError, match="name one domain"):
        model.generate(ids, force=True)
    with pytest.raises(UnknownError, match="known: a, b"):
        model.generate(ids, domains=["c"])


def test_several_beams_are_refused_with_a_cache_wherever_they_are_told(ids, make_model):
    model = make_model()
    cache = PeerCache(model.base.config, model.attachment.tap)
    beams = GenerationConfig(num_beams=2, max_new_tokens=2)
    for options in ({"num_beams": 2}, {"num_return_sequences": 2}, {"generation_config": beams}):
        with pytest.raises(UnsupportedError, match="several beams"):
            model.generate(ids, cache=cache, domains=["a"], **options)
    model.base.generation_config.num_beams = 2
    with pytest.raises(UnsupportedError, match="several beams"):
        model.generate(ids, cache=cache, domains=["a"])


def test_no_number_of_beams_is_one_beam(ids, make_model):
    model = make_model()
    cache = PeerCache(model.base.config, model.attachment.tap)
    expected = model.generate(ids, domains=["a"], **GREEDY)
    assert torch.equal(
        model.generate(ids, domains=["a"], cache=cache, num_beams=None, **GREEDY), expected
    )
