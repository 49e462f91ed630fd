"""Special tokens within texts: an evaluation leaves them out, as the model itself does."""

import hashlib
import json

import numpy as np
import pytest
import torch
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.metrics import kept
from pipelines import open_store, tokenise
from pipelines.asking import ask, hear
from pipelines.background import BackgroundSource
from pipelines.batches import pad
from pipelines.branches import PoolBranches, Shortlist
from pipelines.questions import Question
from pipelines.token_scores import Item
from stores import NewScore

END = "<|endoftext|>"
SETTINGS = tiny_settings()


def marked(subject, num, seed):
    """Return texts with special tokens in the middle, every third with none."""
    drawn = sentences(subject, 2 * num, seed=seed)
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    joints = (f" {END} ", " ", f" {END}{END} ")
    return [f"{a}{joints[number % 3]}{b}" for number, (a, b) in enumerate(pairs)]


FOREIGN = BackgroundSource(
    "letters",
    "prose",
    [*marked("prose", 6, seed=3), *marked("law", 3, seed=4), END, f"{END} rent {END}"],
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("special")
    with open_store(make_tiny_store(folder, domains=("law",)), who="ann") as opened:
        corpus = folder / "marked.jsonl"
        texts = marked("medicine", 40, seed=1)
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        opened.ingest("medicine", corpus, settings=SETTINGS)
        yield opened


@pytest.fixture(scope="module")
def report(store):
    return store.evaluate(background=[FOREIGN], with_recall=False)


@pytest.fixture(scope="module")
def loaded(store):
    model, tokenizer = store.load()
    yield model, tokenizer
    model.detach()


@pytest.fixture(scope="module")
def rows(store, loaded):
    documents = store.registry.documents("medicine", split="test", kind="text")
    return tokenise(loaded[1], [store.registry.document_text(d) for d in documents])


@torch.no_grad()
def scored(model, rows, **how):
    return [model.score(torch.tensor([row]), **how) for row in rows]


def nats(scores):
    counted = sum(int(s.evidence_BT.sum()) for s in scores)
    return [
        -sum(float(one.sum()) for one in told) / counted
        for told in ([s.base_BT for s in scores], [s.mixture_BT for s in scores])
    ]


def shortlist_of(model):
    return Shortlist(model, {name: model.pool(name).signature for name in model.active_pools})


def test_losses_are_those_of_the_model(report, loaded, rows):
    model, _ = loaded
    assert any(0 in row[1:] for row in rows)
    (row,) = [row for row in report["mixture"] if row["domain"] == "medicine"]
    scores = scored(model, rows)
    base, mixture = nats(scores)
    assert row["base_loss_nats"] == pytest.approx(base, rel=1e-6)
    assert row["loss_nats"] == pytest.approx(mixture, rel=1e-6)
    worst = max(float(s.added_nats_B) for s in scores)
    assert row["max_added_nats"] == pytest.approx(worst, abs=1e-5)
    place = report["domains"].index("medicine")
    assert report["matrix"]["loss_nats"][0][place] == pytest.approx(base, rel=1e-6)
    forced = sum(
        float(one.log_probs_QBT[1][one.evidence_BT].sum())
        for one in scored(model, rows, domains=["medicine"])
    )
    counted = sum(int(s.evidence_BT.sum()) for s in scores)
    assert row["forced_loss_nats"] == pytest.approx(-forced / counted, rel=1e-6)


def test_of_foreign_text_too_even_where_nothing_counts(report, loaded):
    model, tokenizer = loaded
    (row,) = report["background"]
    scores = scored(model, tokenise(tokenizer, FOREIGN.documents))
    assert int(scores[-2].evidence_BT.sum()) == 0
    base, mixture = nats(scores)
    assert row["base_loss_nats"] == pytest.approx(base, rel=1e-6)
    assert row["loss_nats"] == pytest.approx(mixture, rel=1e-6)


def test_who_is_asked_and_what_a_continuation_keeps_are_the_models(report, loaded, rows):
    model, _ = loaded
    (row,) = [row for row in report["mixture"] if row["domain"] == "medicine"]
    own = model.active_pools.index("medicine")
    whole = scored(model, rows, ask="context")
    assert row["asked"] == sum(bool(s.entries_PBU[own].any()) for s in whole) / len(rows)
    base = forced = mixture = 0.0
    for ids in rows:
        half = 1 + (len(ids) - 1) // 2
        (found,) = scored(model, [ids], ask="context", context_lengths=torch.tensor([half]))
        base += float(found.base_BT[:, half:].sum())
        mixture += float(found.mixture_BT[:, half:].sum())
        (alone,) = scored(model, [ids], domains=["medicine"])
        counts_T = alone.evidence_BT[0, half:]
        forced += float(alone.log_probs_QBT[1, 0, half:][counts_T].sum())
    assert row["kept_continuation"] == pytest.approx(kept(-base, -forced, -mixture), rel=1e-4)


def test_evidence_for_signatures_is_the_same_token_by_token(loaded):
    """Where special tokens counted, a text with many of them had other means."""
    model, tokenizer = loaded
    rows = tokenise(tokenizer, [*marked("medicine", 4, seed=8), f"a fever {END * 40} rash"])
    ids_BT, mask_BT = pad(rows, pad_id=0)
    lengths_B = torch.tensor([len(row) for row in rows])
    branches = PoolBranches(model, {n: model.pool(n).segments for n in model.active_pools})
    heard = hear(branches, shortlist_of(model), ids_BT, mask_BT, lengths_B)
    with torch.no_grad():
        scores = model.score(ids_BT, mask_BT, ask="context", context_lengths=lengths_B)
    assert torch.equal(heard.evidence_BT, scores.evidence_BT)
    assert torch.equal(heard.choice.at_PB >= 0, scores.entries_PBU.any(-1))
    mixed_BT = heard.mixture_log_probs(model.share)
    torch.testing.assert_close(
        torch.where(scores.evidence_BT, mixed_BT, 0.0), scores.mixture_BT, rtol=1e-6, atol=1e-6
    )


def test_weights_after_a_prompt_are_those_of_the_model(loaded):
    model, tokenizer = loaded
    text = f"A fever with a rash may show an infection {END} of the skin that the doctor"
    (ids,) = tokenise(tokenizer, [text])
    branches = PoolBranches(model, {n: model.pool(n).segments for n in model.active_pools})
    question = Question("medicine", "seen", tuple(ids), len(ids))
    (told,) = ask(branches, shortlist_of(model), [question], model.budget)
    (scores,) = scored(model, [ids], ask="context")
    weights = dict(zip(scores.pools, scores.weights_QBU[1:, 0, -1].tolist(), strict=True))
    assert told.weights["medicine"] == pytest.approx(weights["medicine"], rel=1e-4)


def test_texts_of_a_general_set_too(store, loaded, tmp_path):
    model, tokenizer = loaded
    texts = marked("medicine", 6, seed=12)
    (tmp_path / "marked.txt").write_text("\n\n".join(texts))
    (row,) = store.evaluate(background=False, with_recall=False, general=tmp_path / "marked.txt")[
        "general"
    ]
    scores = scored(model, tokenise(tokenizer, texts), ask="context")
    base, mixture = nats(scores)
    assert row["asked_items"] > 0
    assert row["base_loss_nats"] == pytest.approx(base, rel=1e-6)
    assert row["loss_nats"] == pytest.approx(mixture, rel=1e-6)


def test_only_texts_with_special_tokens_are_scored_anew():
    ids, special = (0, 5, 6, 7), frozenset([0])
    data = np.array(ids, "<i8").tobytes()
    kept_key = hashlib.sha256(b"score-1 tokens " + data).hexdigest()
    assert Item(ids, special_ids=special).key == Item(ids).key == kept_key
    assert Item(ids, special_ids=special).ask_key == Item(ids).ask_key
    within = (0, 5, 0, 7)
    assert Item(within, special_ids=special).key != Item(within).key
    assert Item(within, special_ids=special).counted_T.tolist() == [True, False, True]


def test_what_was_scored_when_they_counted_is_shown_no_more(store, report):
    """An evaluation of before kept scores of every token under another key."""
    registry = store.registry
    version = registry.live().state("medicine").version
    before = registry.held_out_scores(version)
    held = registry.documents("medicine", split="test", kind="text")
    assert {found.document_id for found in before} == {d.document_id for d in held}
    sizes = {found.document_id: len(found.log_probs) for found in before}
    older = "2020-01-01T00:00:00.000000+00:00"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stores.scores.utc_now", lambda: older)
        registry.put_scores(
            [
                NewScore(
                    subject=subject,
                    document_key=hashlib.sha256(f"old {document.document_id}".encode()).hexdigest(),
                    values=np.zeros(99, "<f8").tobytes(),
                    num_tokens=99,
                    document_id=document.document_id,
                )
                for document in held
                for subject in ("base", version)
            ]
        )
    after = registry.held_out_scores(version)
    assert [found.document_id for found in after] == [found.document_id for found in before]
    assert {found.document_id: len(found.log_probs) for found in after} == sizes
