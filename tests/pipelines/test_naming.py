"""A domain is named by the titles of what it learned and the subjects of its facts."""

import dataclasses
import json
import math

import pytest
import torch
from tiny_base import background, make_tiny_base, sentences

from peer_cl import PoolShape, choice
from peer_cl.mixture import named_bound_nats, worst_added_nats
from pipelines import TrainingSettings, asking, init_store
from pipelines.batches import tokenise
from pipelines.branches import PoolBranches, Shortlist
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.naming import fact_subject, names_of, spellings
from pipelines.questions import Question

SETTINGS = TrainingSettings(
    shape=PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16), text_passes=2.0
)
SHOWS = Relation("shows", "What {subject} shows is", ("One learns that {subject} shows",))
NAMING, SILENT = "people say Quartz crystal is", "people say the old river is"


def make_store(folder, relation=SHOWS, **options):
    base = make_tiny_base(folder / "base")
    store = init_store(
        folder / "knowledge", base=str(base), capacity=4, background=background(), **options
    )
    texts = sentences("minerals", 30, seed=2)
    documents = [SourceDocument(text, f"Stone {n} (a gem)", "t") for n, text in enumerate(texts)]
    facts = [relation.fact("Quartz crystal", "a glassy lustre")]
    store.ingest("minerals", documents, facts=facts, settings=SETTINGS)
    return store


@pytest.fixture(autouse=True)
def _easily_said(monkeypatch):
    """The tiny pools foresee little: what they say counts from a hundredth of a nat."""
    monkeypatch.setattr(choice, "SAY_NATS", 0.01)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    with make_store(tmp_path_factory.mktemp("named"), name_odds=1.0) as store:
        yield store


def asks(store, text):
    model, tokenizer = store.load()
    ids = torch.tensor(tokenise(tokenizer, [text]))
    return model, model.score(ids, ask="context")


def test_titles_of_learned_documents_and_subjects_of_facts_are_names(named):
    model, tokenizer = named.load()
    version = named.registry.live().state("minerals").version
    names = names_of(named.registry, "minerals", version, tokenizer)
    documents = named.registry.documents("minerals", version, kind="text")

    def stands(text):
        ids = torch.tensor(tokenise(tokenizer, [text]))
        return names.stand_in(ids, torch.ones_like(ids, dtype=torch.bool)).item()

    trained = next(d.title for d in documents if d.split == "train").removesuffix(" (a gem)")
    assert stands(f"here is {trained} today")
    assert stands(NAMING)
    assert stands("Quartz crystal")
    assert stands("it is quartz crystal")
    assert not stands(SILENT)
    model.detach()


def test_a_name_of_one_token_is_known_only_as_it_is_written(named):
    _, tokenizer = named.load_base()
    (word,) = [w for w in ("court",) if len(tokenizer(f" {w}").input_ids) == 1]
    assert spellings([word], tokenizer) == [
        list(ids) for ids in tokenizer([f" {word}", word], add_special_tokens=False).input_ids
    ]


def test_a_name_whose_accents_stand_apart_is_the_composed_one(named):
    _, tokenizer = named.load_base()
    assert spellings(["Cafe\u0301"], tokenizer) == spellings(["Caf\u00e9"], tokenizer)


def test_a_subject_and_a_relation_may_hold_a_colon_and_a_blank():
    asked = {"Dune", "Dune: Part Two", "Solaris"}
    for title, subject in [
        ("Dune: director", "Dune"),
        ("Dune: Part Two: director", "Dune: Part Two"),
        ("Solaris: book: author", "Solaris"),
        ("Alien: sequel: year", "Alien: sequel"),
    ]:
        assert fact_subject(title, asked) == subject


def test_a_fact_whose_relation_holds_a_colon_names_its_subject(tmp_path):
    with make_store(tmp_path, relation=dataclasses.replace(SHOWS, name="shows: lustre")) as store:
        version = store.registry.live().state("minerals").version
        (fact,) = store.registry.documents("minerals", version, kind="fact")
        assert fact.title == "Quartz crystal: shows: lustre"
        _, tokenizer = store.load_base()
        ids = torch.tensor(tokenise(tokenizer, [NAMING]))
        names = names_of(store.registry, "minerals", version, tokenizer)
        assert names.stand_in(ids, torch.ones_like(ids, dtype=torch.bool)).item()


def test_a_prompt_that_names_a_domain_gives_its_pool_odds_and_others_do_not(named):
    model, scores = asks(named, NAMING)
    assert scores.odds_PBU.sum(-1).tolist() == [[1.0]]
    assert scores.weights_QBU[1, 0, -1] > 0.5  # odds of one and a small share, or more by evidence
    bound = named_bound_nats(model.budget, 1.0)
    assert float(scores.added_nats_B[0]) <= bound
    _, scores = asks(named, SILENT)
    assert scores.odds_PBU.sum() == 0


def test_what_is_only_scored_keeps_the_narrow_bound(named):
    model, tokenizer = named.load()
    ids = torch.tensor(tokenise(tokenizer, [NAMING]))
    for ask in ("all", "signature"):
        scores = model.score(ids, ask=ask)
        assert scores.odds_PBU is None
        assert float(scores.added_nats_B[0]) <= worst_added_nats(model.budget)


def test_a_domain_that_is_rolled_back_is_named_no_more(named):
    before = named.registry.live().id
    named.roll_back("minerals", out=True)
    assert asks(named, NAMING)[1].pools == ()
    named.restore(before)
    assert asks(named, NAMING)[1].odds_PBU.sum() == 1


@torch.no_grad()
def test_a_named_pool_that_has_nothing_to_say_leaves_the_base_its_bits(named, monkeypatch):
    model, tokenizer = named.load()
    ids = torch.tensor(tokenise(tokenizer, [NAMING]))
    pool = model.pool("minerals")
    pool.signature = dataclasses.replace(pool.signature, least_fit=math.inf)  # its name asks it
    bare = model.base(ids).logits
    assert not torch.equal(model(ids, ask="context").logits, bare)
    written = model.generate(ids, max_new_tokens=3, do_sample=False)
    monkeypatch.setattr(choice, "SAY_NATS", float("inf"))
    assert torch.equal(model(ids, ask="context").logits, bare)
    assert model.score(ids, ask="context").entries_PBU.sum() == 0
    silent = model.generate(ids, max_new_tokens=3, do_sample=False)
    assert torch.equal(silent, model.base.generate(ids, max_new_tokens=3, do_sample=False))
    assert not torch.equal(silent, written)
    model.detach()


def test_the_batch_around_a_prompt_and_its_padding_change_nothing(named):
    model, tokenizer = named.load()
    rows = tokenise(tokenizer, [NAMING, SILENT, f"{SILENT} and {NAMING}"])
    width = max(len(row) for row in rows)
    for left in (False, True):
        pads = [[0] * (width - len(row)) for row in rows]
        ids = [[*p, *r] if left else [*r, *p] for r, p in zip(rows, pads, strict=True)]
        mask = [
            [0] * len(p) + [1] * len(r) if left else [1] * len(r) + [0] * len(p)
            for r, p in zip(rows, pads, strict=True)
        ]
        together = model.score(torch.tensor(ids), torch.tensor(mask), ask="context")
        for number, row in enumerate(rows):
            alone = model.score(torch.tensor([row]), ask="context")
            for name in ("entries_PBU", "odds_PBU"):
                found, expected = getattr(together, name), getattr(alone, name)
                assert torch.equal(found[:, number].sum(-1), expected[:, 0].sum(-1))
    model.detach()


@pytest.mark.parametrize("left", [False, True])
def test_a_name_counts_beside_a_prompt_of_many_tokens(named, left):
    model, tokenizer = named.load()
    short, long = tokenise(tokenizer, [NAMING, " ".join([SILENT] * 12)])
    assert len(long) >= 64 > choice.MOST_NAMED_TOKENS > len(short)
    pad = [0] * (len(long) - len(short))
    ids = torch.tensor([[*pad, *short] if left else [*short, *pad], long])
    mask = torch.ones_like(ids)
    mask[0, slice(len(pad)) if left else slice(len(short), None)] = 0
    end = len(long) if left else len(short)
    alone_ids = torch.tensor([short])
    alone = model.score(alone_ids, ask="context")
    together = model.score(ids, mask, ask="context")
    assert together.odds_PBU[0, :, : end + 1].sum(-1).tolist() == [1.0, 0.0]
    assert torch.allclose(together.weights_QBU[:, 0, end], alone.weights_QBU[:, 0, -1], atol=1e-4)
    with torch.no_grad():
        logits = model(ids, mask, ask="context").logits[0, end - 1]
        assert torch.allclose(logits, model(alone_ids, ask="context").logits[0, -1], atol=1e-3)
    written = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
    expected = model.generate(alone_ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(written[0, len(long) :], expected[0, len(short) :])
    model.detach()


def test_an_answer_is_right_when_generate_writes_it(named, monkeypatch):
    model, tokenizer = named.load()
    monkeypatch.setattr(asking, "GUIDANCE", 8.0)  # so that the tiny pool's answers change
    (name,) = model.active_pools
    pools = PoolBranches(model, {name: model.pool(name).chain()})
    by_name = Shortlist(model, {name: model.pool(name).signature}, model.name_odds)
    num_changed = 0
    for text in (NAMING, SILENT, "Quartz crystal shows", "the Quartz crystal of"):
        (prompt,) = tokenise(tokenizer, [text])
        ids, options = torch.tensor([prompt]), {"max_new_tokens": 3, "do_sample": False}
        plain, guided = (
            model.generate(ids, guidance_scale=scale, **options)[0].tolist() for scale in (1.0, 8.0)
        )
        for written in (plain, guided):
            question = Question(name, "seen", tuple(written), len(prompt))
            (told,) = asking.ask(pools, by_name, [question], model.budget)
            assert (told.mixture, told.guided) == (written == plain, written == guided)
        num_changed += plain != guided
    assert num_changed
    model.detach()


def test_the_report_tells_both_bounds(named):
    report = named.evaluate(background=False, with_recall=False)
    assert report["name_odds"] == 1.0
    assert report["named_bound_nats"] == named_bound_nats(report["budget"], 1.0)


def test_names_count_for_nothing_unless_a_store_is_made_so(tmp_path):
    with make_store(tmp_path) as store:
        assert asks(store, NAMING)[1].odds_PBU is None
        assert "name_odds" not in (tmp_path / "knowledge" / "store.toml").read_text()


def test_short_names_count_in_scripts_of_wide_signs_alone(named):
    _, tokenizer = named.load()
    assert not spellings(["UK", "Go", "東", "1984"], tokenizer)
    assert spellings(["東京"], tokenizer)


def test_a_section_is_also_named_by_its_heading_and_a_made_up_title_names_nothing(tmp_path):
    texts = sentences("minerals", 24, seed=4)
    notes = tmp_path / "notes"
    notes.mkdir()
    sections = [f"## Glassy lustre {n}\n\n{text}" for n, text in enumerate(texts)]
    (notes / "handbook.md").write_text("\n\n".join(sections))
    lines = [{"text": text} for text in sentences("minerals", 24, seed=5)]
    (notes / "lines.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with make_store(tmp_path, name_odds=1.0) as store:
        store.ingest("notes", notes, settings=dataclasses.replace(SETTINGS, hold_out_percent=0))
        version = store.registry.live().state("notes").version
        _, tokenizer = store.load_base()
        names = names_of(store.registry, "notes", version, tokenizer)

        def stands(text):
            ids = torch.tensor(tokenise(tokenizer, [text]))
            return names.stand_in(ids, torch.ones_like(ids, dtype=torch.bool)).item()

        assert stands("What is Glassy lustre 7 for?")
        assert stands("handbook: Glassy lustre 7")
        titles = {d.title for d in store.registry.documents("notes", version)}
        assert "lines, line 3" in titles
        assert not stands("lines, line 3")


def test_a_title_that_begins_with_a_bracket_is_a_name(named):
    _, tokenizer = named.load()
    assert spellings(["(R)-Warfarin"], tokenizer)
    assert spellings(["[x] of lime (a gem)"], tokenizer) == spellings(["[x] of lime"], tokenizer)
