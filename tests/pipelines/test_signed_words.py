"""Words in a store: counted at `init` and at each ingest, kept, and read by whoever asks."""

import json

import pytest
import torch
from tiny_base import (
    background,
    copy_store,
    make_tiny_store,
    tiny_settings,
    without_words,
    write_corpus,
)

from peer_cl.signature import Signature
from peer_cl.words import TokenCounts
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.branches import Shortlist
from pipelines.loading import load_background_statistics, read_signature
from pipelines.token_scores import Item

SETTINGS = tiny_settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"))


def signature_of(store, domain):
    registry = store.registry
    return read_signature(registry, domain, registry.live().state(domain).version)


def counted(tokenizer, texts):
    """Counts of the tokens that hold a letter, or a piece of a sign of several bytes."""
    special = set(tokenizer.all_special_ids)

    def is_word(token):
        text = tokenizer.decode([token])
        return token not in special and ("\ufffd" in text or any(map(str.isalpha, text)))

    return TokenCounts.of([i for i in ids if is_word(i)] for ids in tokenise(tokenizer, texts))


def same(one, other):
    return torch.equal(one.ids_X, other.ids_X) and torch.equal(one.counts_X, other.counts_X)


def test_a_store_counts_ordinary_tokens_and_a_domain_those_that_it_learned(store):
    model, tokenizer = store.load_base()
    ordinary = load_background_statistics(store.registry).words
    assert ordinary is not None
    assert same(ordinary.counts, counted(tokenizer, background()))
    assert ordinary.vocabulary == len(tokenizer) - len(ordinary.marks_M)
    registry = store.registry
    learned = [d for d in registry.documents("law", kind="text") if d.split == "train"]
    assert len(learned) < len(registry.documents("law", kind="text"))
    (words,) = signature_of(store, "law").words
    assert same(words.counts, counted(tokenizer, [registry.document_text(d) for d in learned]))
    model.detach()


def test_a_domain_that_grows_keeps_the_words_of_both_segments(store, tmp_path):
    (first,) = signature_of(store, "law").words
    corpus = write_corpus(tmp_path / "more.jsonl", "law", seed=9)
    store.ingest("law", corpus, settings=SETTINGS)
    older, newer = signature_of(store, "law").words
    assert same(older.counts, first.counts)
    assert older.threshold == first.threshold
    assert not same(newer.counts, first.counts)


def test_tokens_without_a_letter_are_no_words(store):
    _, tokenizer = store.load_base()
    marks = set(load_background_statistics(store.registry).words.marks_M.tolist())
    (layout,) = tokenise(tokenizer, ['\n\n# 17 | \t---  (2.5) "!"\r\n* \N{BULLET}'])
    (words,) = tokenise(tokenizer, ["lawful Silica \N{GREEK SMALL LETTER PI}"])
    special = set(tokenizer.all_special_ids)
    bullet = set(tokenise(tokenizer, ["\N{BULLET}"])[0])  # its bytes may be those of a letter
    assert marks >= set(layout) - special - bullet
    blank = set(tokenise(tokenizer, [" "])[0])
    assert marks.isdisjoint(set(words) - special - blank)


@pytest.mark.parametrize("sign", ["\n", " 7"])
def test_how_a_text_is_laid_out_asks_nobody(store, tmp_path, sign):
    """Ordinary text here has no line breaks: one in a domain's texts said more than any word."""
    notes = [
        one["text"]
        for one in map(
            json.loads, write_corpus(tmp_path / "a.jsonl", "minerals").read_text().splitlines()
        )
    ]
    plain, laid_out = tmp_path / "plain.jsonl", tmp_path / "laid-out.jsonl"
    plain.write_text("".join(json.dumps({"text": text}) + "\n" for text in notes))
    broken = [text.replace(". ", f".{sign}{sign} ") for text in notes]
    assert broken != notes
    laid_out.write_text("".join(json.dumps({"text": text}) + "\n" for text in broken))
    for name, corpus in (("plain", plain), ("laid-out", laid_out)):
        store.ingest(name, corpus, settings=SETTINGS)
    model, tokenizer = store.load_base()
    ordinary = model.background.words
    ids = torch.tensor(tokenise(tokenizer, [sign * 40])[0][1:])
    for name in ("plain", "laid-out"):
        (words,) = signature_of(store, name).words
        odds = words.log_odds(ids, ordinary.likelihood(ids))
        assert odds.tolist() == [0.0] * len(ids)
    model.detach()


def test_by_default_ordinary_tokens_are_counted_in_whole_sources(tmp_path, monkeypatch):
    from tiny_base import make_tiny_base

    from pipelines import background as sources
    from pipelines import init_store

    texts = list(background())
    cut = [text[: len(text) // 2] for text in texts]

    def load(role, cache_dir=None, *, is_whole=False):
        assert role == "calibration"
        return [sources.BackgroundSource("here", "prose", texts if is_whole else cut)]

    monkeypatch.setattr(sources, "load_background", load)
    base = make_tiny_base(tmp_path / "base")
    with init_store(tmp_path / "store", base=str(base)) as made_anew:
        _, tokenizer = made_anew.load_base()
        statistics = load_background_statistics(made_anew.registry)
    assert same(statistics.words.counts, counted(tokenizer, texts))
    held = tokenise(tokenizer, cut)
    assert int(statistics.held_lengths.sum()) < sum(len(ids) - 1 for ids in held)


def test_a_store_of_before_words_counted_learns_and_asks_by_states(made, tmp_path):
    with open_store(without_words(copy_store(made, tmp_path))) as store:
        corpus = write_corpus(tmp_path / "minerals.jsonl", "minerals")
        store.ingest("minerals", corpus, settings=SETTINGS)
        signature = signature_of(store, "minerals")
        assert signature.words == ()
        text = store.registry.document_text(store.registry.documents("minerals")[0])
        found = store.search(text)
        assert found.needed["minerals"] >= signature.threshold
        grown = write_corpus(tmp_path / "more.jsonl", "law", seed=9)
        store.ingest("law", grown, settings=SETTINGS)
        assert signature_of(store, "law").words == ()


def test_in_a_store_of_before_each_token_is_a_word(made, tmp_path):
    with open_store(without_words(copy_store(made, tmp_path), only_marks=True)) as store:
        corpus = write_corpus(tmp_path / "minerals.jsonl", "minerals")
        store.ingest("minerals", corpus, settings=SETTINGS)
        _, tokenizer = store.load_base()
        registry, special = store.registry, set(tokenizer.all_special_ids)
        learned = [d for d in registry.documents("minerals", kind="text") if d.split == "train"]
        rows = tokenise(tokenizer, [registry.document_text(d) for d in learned])
        every = TokenCounts.of([i for i in ids if i not in special] for ids in rows)
        assert same(signature_of(store, "minerals").words[0].counts, every)
        (stop,) = tokenizer(".", add_special_tokens=False).input_ids
        assert every.at(torch.tensor([stop])).item() > 0


def test_whoever_asks_by_a_store_decides_alike(store):
    """The shortlist of benchmarks, a search, and an evaluation that reads what it kept."""
    from pipelines.token_scores import ScoreBook, VersionBranch

    model, tokenizer = store.load()
    registry = store.registry
    versions = {state.domain: state.version for state in registry.live().domains}
    signatures = {name: model.pool(name).signature for name in versions}
    texts = [registry.document_text(d) for n in versions for d in registry.documents(n)[:6]]
    texts += [text[: len(text) // 4] for text in texts] + list(background())[:4]
    rows = tokenise(tokenizer, texts)
    asked = Shortlist(model, signatures).asked(rows)
    assert 0 < sum(sum(one) for one in asked.values()) < len(rows) * len(versions)
    branches = [
        VersionBranch(version, model.pool(name).segments, signatures[name])
        for name, version in versions.items()
    ]
    book = ScoreBook(registry, model, branches)
    items = [Item(tuple(row)) for row in rows]
    book.fill(items, "", lambda *_: None)
    again = ScoreBook(registry, model, branches)  # reads what the first one kept
    again.fill(items, "", lambda *_: None)
    for name, version in versions.items():
        assert [book.asked(version, item).whole for item in items] == asked[name]
        assert [again.asked(version, item).whole for item in items] == asked[name]
        halves = Shortlist(model, {name: signatures[name]}).asked(
            rows, [item.context_length for item in items]
        )
        assert [again.asked(version, item).first_half for item in items] == halves[name]
    for number in (0, 13):
        found = store.search(texts[number], model=model, tokenizer=tokenizer)
        assert sorted(found.asked) == sorted(n for n in versions if asked[n][number])
    model.detach()


def test_a_signature_in_a_store_is_read_back_as_it_was(store):
    signature = signature_of(store, "law")
    assert signature.words
    assert Signature.from_bytes(signature.to_bytes()).to_bytes() == signature.to_bytes()
