"""The promises on the real SmolLM2-135M and real corpora, small enough for every CI run."""

import dataclasses
import math

import pytest
import torch

from peer_cl import ExpertPool, PeerCache, PoolShape
from peer_cl.branches import branch_cache, default_position_ids, run_base, run_branch
from pipelines import TrainingSettings, demo_corpora, init_store
from pipelines.background import load_background
from pipelines.base_models import resolve_base
from pipelines.batches import pad, tokenise
from pipelines.demo import probe_bits
from pipelines.loading import empty_model, load_store_base
from pipelines.verify import verify

pytestmark = pytest.mark.smollm2

DOMAINS = ("security", "minerals")
SETTINGS = TrainingSettings(text_passes=1.0, fact_passes=3.0, validations=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store on SmolLM2 that learned a little of two real corpora."""
    background = [t for s in load_background("calibration") for t in s.documents[:10]]
    folder = tmp_path_factory.mktemp("smollm2") / "knowledge"
    with init_store(folder, capacity=8, background=background) as made:
        for domain in DOMAINS:
            corpus = demo_corpora.load(domain, 3_000)
            made.ingest(domain, corpus.documents, facts=corpus.facts[:8], settings=SETTINGS)
        yield made


@pytest.fixture(scope="module")
def loaded(store):
    model, tokenizer = store.load()
    yield model, tokenizer
    model.detach()


@pytest.fixture(scope="module")
def texts():
    """Real documents of domains and of foreign sources, hundreds of them, cut short."""
    found = [d.text for name in DOMAINS for d in demo_corpora.load(name, 6_000).documents]
    found += [text for source in load_background("test") for text in source.documents[:40]]
    return [text[:120] for text in found]


def test_the_conversion_is_kept_and_loads_with_the_same_hashes(store):
    assert resolve_base("smollm2") == resolve_base("smollm2")
    base = load_store_base(store.registry)
    assert base.identity.weights_sha256 == store.registry.config.base_weights_sha256


@pytest.fixture(scope="module")
def crowded(store):
    """The model with eight pools: two trained, two of these turned bad, and four of noise."""
    model, tokenizer = store.load()
    draw = torch.Generator().manual_seed(0)
    for number in range(6):
        segment = model.new_segment(PoolShape())
        if number < 2:
            segment.load_state_dict(model.pool(DOMAINS[number]).chain()[0].state_dict())
        for layer in segment.peer_layers():
            up_ND = layer.experts.up_ND.data
            if number < 2:
                up_ND.mul_((-1.0, 3.0)[number])
            else:
                up_ND.copy_(torch.randn(up_ND.shape, generator=draw) * 0.05 * number)
        model.add_pool(f"bad {number}", ExpertPool(f"bad {number}", [segment]))
    yield model, tokenizer
    model.detach()


@pytest.fixture(scope="module")
def batches(crowded, texts):
    """The texts, and nonsense, as padded ids and masks."""
    _, tokenizer = crowded
    draw = torch.Generator().manual_seed(0)
    nonsense = torch.randint(3, 49_000, (16, 24), generator=draw).tolist()
    rows = sorted([*tokenise(tokenizer, texts), *nonsense], key=len)
    return [
        pad(rows[start : start + 32], tokenizer.eos_token_id) for start in range(0, len(rows), 32)
    ]


@pytest.fixture(scope="module")
def scored(crowded, batches):
    """What all eight pools make of every text."""
    model, _ = crowded
    return [model.score(ids, mask, ask="all") for ids, mask in batches]


def of_pools(scores, names):
    """What a model with these pools alone makes of the same texts."""
    places = [scores.pools.index(name) for name in names]
    return dataclasses.replace(
        scores,
        pools=tuple(names),
        log_probs_QBT=scores.log_probs_QBT[[0, *(place + 1 for place in places)]],
        entries_PBU=scores.entries_PBU[places],
    )


def first_pools(num_pools):
    return [*DOMAINS, *(f"bad {n}" for n in range(6))][:num_pools]


@pytest.mark.parametrize("num_pools", [1, 2, 8])
def test_no_real_document_loses_more_than_the_budget(crowded, texts, scored, num_pools):
    model, _ = crowded
    assert len(texts) >= 300
    bound, num_better = -math.log1p(-model.budget), 0
    worst: list[float] = []
    forced: list[float] = []
    for every in scored:
        scores = of_pools(every, first_pools(num_pools))
        added = scores.added_nats_B
        worst.append(float(added.max()))
        lost = (scores.log_probs_QBT[:1] - scores.log_probs_QBT[1:]) * scores.evidence_BT
        forced.append(float(lost.sum(-1).max()))
        num_better += int((added < 0).sum())
    assert max(worst) <= bound + 1e-9
    assert max(forced) > bound  # a pool alone does lose more: the bound is the mixture's doing
    assert num_better > 50


@pytest.mark.parametrize("num_pools", [1, 2])
def test_what_a_pool_says_is_the_same_whoever_else_is_there(crowded, batches, scored, num_pools):
    """So what eight say tells what fewer do."""
    model, _ = crowded
    names, middle = first_pools(num_pools), len(batches) // 2
    model.set_pool(names)
    for number in (0, middle):
        ids, mask = batches[number]
        alone = model.score(ids, mask, ask="all")
        assert sorted(alone.pools) == sorted(names)
        expected = of_pools(scored[number], alone.pools)
        assert torch.equal(alone.log_probs_QBT, expected.log_probs_QBT)
        assert torch.equal(alone.entries_PBU, expected.entries_PBU)
        assert torch.equal(alone.added_nats_B, expected.added_nats_B)


def test_a_new_pool_is_the_base_bit_for_bit_with_and_without_a_cache(store):
    base = load_store_base(store.registry)
    model = empty_model(store.registry, base)
    segment = model.new_segment(PoolShape())
    ids = torch.tensor(tokenise(base.tokenizer, ["The court held that the mineral is"]))
    with torch.no_grad():
        bare = base.model(ids, use_cache=False).logits
        kept = run_base(model.attachment, input_ids=ids, use_cache=False)
        positions = default_position_ids(ids.shape[1], 0, ids.device)
        for cache in (None, branch_cache(base.model.config, model.attachment.tap)):
            logits = run_branch(
                model.attachment,
                [segment],
                kept.tap_BTD,
                input_ids=ids,
                attention_mask=None,
                position_ids=positions,
                cache=cache,
            )
            assert torch.equal(logits, bare)
    model.detach()


def test_cached_and_uncached_generation_choose_the_same_tokens(loaded):
    model, tokenizer = loaded
    prompts = tokenise(tokenizer, ["Adversaries may", "Quartz (Tabular): a hard", "The sea was"])
    width = max(map(len, prompts))
    ids = torch.tensor([[2] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 2}
    cached = model.generate(ids, **options)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **options))
    cache = PeerCache(model.base.config, model.attachment.tap)
    assert torch.equal(cached, model.generate(ids, cache=cache, **options))


def test_verify_holds_against_a_process_without_this_project(store):
    report = verify(store)
    assert report.is_good, [check for check in report.checks if check.verdict == "failed"]


def test_rolling_back_and_restoring_are_exact(store):
    full = store.registry.live().id
    both = probe_bits(store, None)
    past = store.registry.ancestry(full)
    alone = next(s for s in past if s.state("security") and not s.state("minerals"))
    expected = probe_bits(store, alone.id)
    store.roll_back("minerals", out=True)
    assert probe_bits(store, None) == expected != both
    store.roll_back("security", out=True)
    assert not store.registry.live().domains
    store.restore(full)
    assert probe_bits(store, None) == both


def test_evaluation_learns_and_forgets_nothing(store):
    report = store.evaluate(max_documents=6)
    for row in report["mixture"]:
        assert row["forced_loss_nats"] < row["base_loss_nats"]
        assert row["loss_nats"] < row["base_loss_nats"]
    assert report["metrics"]["bwt"] >= -0.001
    rows = [*report["mixture"], *report["background"]]
    assert max(row["max_added_nats"] for row in rows) <= report["bound_nats"] + 1e-9
    assert {row["kind"] for row in report["background"]} == {"prose", "look-alike"}


def test_a_mask_takes_more_from_its_document_than_from_others(store):
    domain = "minerals"
    learned = store.registry.documents(domain, split="train", kind="text")
    for document in sorted(learned, key=lambda found: found.document_id)[:2]:
        before = store.registry.live().state(domain).version
        effect = store.erase_masked(domain, [document.document_id]).effect
        (own,) = effect.documents
        assert own.before_nats < own.base_nats
        assert own.after_nats > own.before_nats
        assert own.removed > effect.others_removed
        store.roll_back(domain, before)


def test_what_exact_erasure_leaves_is_what_was_never_taught_the_document(store):
    corpus = demo_corpora.load("geography", 1_500)
    facts, live = corpus.facts[:6], store.registry.live().id

    def objects():
        chain = store.registry.domain("geography").chain
        return [(s.pool_object, s.signature_object, s.use_object) for s in chain]

    store.ingest("geography", corpus.documents, facts=facts, settings=SETTINGS)
    kept = objects()
    learned = store.registry.documents("geography", split="train", kind="text")
    document, fact = min(learned, key=lambda d: d.document_id), facts[0].document("")
    store.erase_exact("geography", [document.document_id, fact.document_id])
    erased = objects()
    store.roll_back("geography", out=True)
    store.ingest(
        "geography",
        [d for d in corpus.documents if d.document_id != document.document_id],
        facts=facts[1:],
        settings=SETTINGS,
    )
    assert erased == objects()
    assert not set(erased[0]) & set(kept[0])
    store.restore(live)
