"""A look at a corpus before it is learned: counts, what is known, what cannot be read, how long."""

import dataclasses
import json

import pytest
from tiny_base import copy_store, make_tiny_store, sentences, write_corpus

from peer_cl import PoolShape
from peer_cl.errors import BaseMismatchError, CorpusError, DomainNameError, StateError
from pipelines import TrainingSettings, open_store
from pipelines.batches import tokenise
from pipelines.corpora import read_corpus
from pipelines.fact_files import read_facts
from pipelines.facts import Relation
from pipelines.loading import load_store_base
from pipelines.previewing import (
    DEMO_TOKENS_A_SECOND,
    near_domains,
    preview,
)
from pipelines.uploads import SUFFIXES, Upload, describe_source, find_source, readable

TRAIN_SHARE = 0.77
"""Of documents, about; the others are held out."""
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("previews"))


@pytest.fixture
def store(made):
    """Only read: nothing that is tested here writes."""
    with open_store(made, who="ann") as opened:
        yield opened


@pytest.fixture
def minerals(tmp_path):
    return write_corpus(tmp_path / "minerals.jsonl", "minerals", num=10)


def lines(path, *texts):
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    return path


def test_what_is_new_is_counted_in_documents_and_tokens(store, minerals):
    found = preview(store, "minerals", minerals)
    texts = [document.text for document in read_corpus(minerals).documents]
    tokenizer = load_store_base(store.registry).tokenizer
    assert (found.num_documents, found.num_new, found.num_known, found.num_twice) == (10, 10, 0, 0)
    assert found.num_tokens == sum(len(ids) - 1 for ids in tokenise(tokenizer, texts))
    assert found.is_new_domain
    assert found.elsewhere == ()
    assert (found.num_skipped, found.problems) == (0, ())
    assert (found.num_experts, found.num_host_layers) == (PoolShape().num_experts, 4)
    assert not found.is_size_measured


def test_copies_and_what_is_known_are_told_apart(store, made, tmp_path):
    documents = read_corpus(made.parent / "law.jsonl").documents
    law, law_ids = [d.text for d in documents], {d.document_id for d in documents[:2]}
    new = sentences("minerals", 2, seed=9)
    corpus = lines(tmp_path / "mixed.jsonl", law[0], law[1], new[0], new[0] + "  ", new[1])
    into_law = preview(store, "law", corpus)
    assert (into_law.num_documents, into_law.num_twice) == (5, 1)
    splits = [d.split for d in store.registry.documents("law") if d.document_id in law_ids]
    assert sorted(split == "train" for split in splits) == [False, True], "one of each"
    assert (into_law.num_known, into_law.num_held_out) == (1, 1)
    assert (into_law.num_new, into_law.elsewhere, into_law.is_new_domain) == (2, (), False)
    elsewhere = preview(store, "minerals", corpus)
    assert (elsewhere.num_known, elsewhere.num_new) == (0, 4)
    assert elsewhere.elsewhere == (("law", 2),)


def test_facts_count_too(store, minerals, tmp_path):
    fact = {"subject": "quartz", "relation": "is", "answer": "hard", "statement": "Quartz is hard"}
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps(fact) + "\n{}\n", encoding="utf-8")
    found = preview(store, "minerals", minerals, facts=facts)
    assert (found.num_facts, found.num_new, found.num_skipped) == (1, 11, 1)
    assert found.num_tokens > preview(store, "minerals", minerals).num_tokens


def test_lines_that_cannot_be_read_are_named_and_counted(store, minerals):
    with minerals.open("a", encoding="utf-8") as file:
        file.write('{"text": \n' + "[1]\n" * 9)
    found = preview(store, "minerals", minerals)
    assert (found.num_documents, found.num_skipped, len(found.problems)) == (10, 10, 5)
    assert found.problems[0].startswith(f"{minerals}:11 is no JSON")
    uploaded = preview(store, "minerals", Upload("../stones.jsonl", minerals.read_bytes()))
    assert uploaded.problems[0].startswith("stones.jsonl:11 is no JSON")
    assert uploaded.num_tokens == found.num_tokens


def test_nothing_is_left_of_a_preview(store, minerals):
    before = {path: path.read_bytes() for path in store.registry.folder.rglob("staging/*")}
    live = store.registry.live()
    preview(store, "minerals", Upload("stones.jsonl", minerals.read_bytes()))
    with pytest.raises(CorpusError, match=r"corpus stones.jsonl has no text"):
        preview(store, "minerals", Upload("stones.jsonl", b"[1]\n"))
    after = {path: path.read_bytes() for path in store.registry.folder.rglob("staging/*")}
    assert after == before
    assert store.registry.live() == live


def timed(store, minerals, **settings):
    return preview(store, "minerals", minerals, settings=TrainingSettings(**settings))


def test_the_time_follows_from_earlier_runs(store, minerals):
    once = timed(store, minerals, least_steps=1)
    assert once.seconds_from == "the last 2 training runs in this store"
    runs = store.registry.jobs.run_speeds(5)
    a_token = sum(run.seconds for run in runs) / sum(3.0 * run.num_tokens for run in runs)
    assert once.seconds == pytest.approx(a_token * TRAIN_SHARE * once.num_tokens * 1.5)
    twice = timed(store, minerals, least_steps=1, text_passes=3.0)
    assert twice.seconds == pytest.approx(2 * once.seconds)


def test_what_is_small_takes_the_time_of_the_fewest_steps(store, minerals):
    once, often = (timed(store, minerals, least_steps=least) for least in (1, 1000))
    a_step = min(TrainingSettings().tokens_per_step, TRAIN_SHARE * once.num_tokens)
    read_once = 1.5 * TRAIN_SHARE * once.num_tokens
    assert often.seconds == pytest.approx(once.seconds * 1000 * a_step / read_once)


def test_without_earlier_runs_the_time_is_the_demos(made, minerals, tmp_path):
    with open_store(copy_store(made, tmp_path), who="ann") as fresh:
        for domain in ("law", "medicine"):
            fresh.roll_back(domain, out=True)
            fresh.purge(domain)
        found = timed(fresh, minerals, least_steps=1)
    assert "the demo's corpora" in found.seconds_from
    read = 1.5 * TRAIN_SHARE * found.num_tokens
    assert found.seconds == pytest.approx(read / DEMO_TOKENS_A_SECOND)


def test_facts_are_all_learned_and_read_more_often(store, minerals):
    facts = [OWNER.fact(f"house {number}", "the tenant") for number in range(40)]
    lines = [json.dumps(dataclasses.asdict(fact)) for fact in facts]
    upload = Upload("facts.jsonl", "\n".join(lines).encode())
    once = timed(store, minerals, least_steps=1)
    settings = TrainingSettings(least_steps=1)
    both = preview(store, "minerals", minerals, facts=upload, settings=settings)
    learned = 1.5 * TRAIN_SHARE * once.num_tokens
    more = 10.0 * (both.num_tokens - once.num_tokens)
    assert both.seconds == pytest.approx(once.seconds * (learned + more) / learned)


def test_what_cannot_be_looked_at_is_one_line(store, made, minerals, tmp_path):
    for error, domain, source, told in (
        (CorpusError, "minerals", tmp_path / "none", "no corpus at"),
        (DomainNameError, "../x", minerals, "looks like a path"),
    ):
        with pytest.raises(error, match=told):
            preview(store, domain, source)
    other = copy_store(made, tmp_path)
    tokenizer = other.parent / "base" / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8")
    tokenizer.write_text(text.replace('"ignore_merges": false', '"ignore_merges": true'))
    with (
        open_store(other) as opened,
        pytest.raises(BaseMismatchError, match="put the old one back"),
    ):
        preview(opened, "minerals", minerals)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{}", "KeyError"),
        ("[]", "TypeError"),
        ('{"added_tokens": [], "model": {"type": "BPE", "vocab": 7}}', "Exception"),
        ('{"version', "JSONDecodeError"),
    ],
)
def test_a_damaged_tokenizer_is_one_line(made, minerals, tmp_path, content, told):
    other = copy_store(made, tmp_path)
    base = other.parent / "base"
    (base / "tokenizer.json").write_text(content, encoding="utf-8")
    with (
        open_store(other) as opened,
        pytest.raises(CorpusError, match=f"tokenizer cannot be loaded from .*: {told}") as got,
    ):
        preview(opened, "minerals", minerals)
    assert str(base) in str(got.value)
    assert "\n" not in str(got.value)


def test_a_corpus_looks_like_the_domain_of_its_subject(store, tmp_path):
    medicine = write_corpus(tmp_path / "more.jsonl", "medicine", num=30, seed=5)
    (first, *others) = near_domains(store, medicine, "pills")
    assert first.domain == "medicine"
    assert first.num_sampled == 15, "every second one of thirty: no more than twenty"
    assert first.num_asking > sum(item.num_asking for item in others)
    assert "medicine" not in [item.domain for item in near_domains(store, medicine, "medicine")]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("notes.docx", b"text", "cannot read notes.docx; upload a .txt, .md, .markdown, .jsonl"),
        ("a.txt", b" \n", "a.txt is empty"),
        ("a.txt", b"PK\x03\x04\0\0", r"a.txt is binary .NUL at byte 4"),
        ("a.md", "caf\u00e9".encode("latin-1"), "a.md is not UTF-8: byte 3 is 0xe9"),
        ("%PDF.txt", b"%PDF-1.4\n%\xe2\xe3", r"is not UTF-8: byte 10"),
    ],
)
def test_an_upload_that_is_no_text_is_refused(name, data, told):
    with pytest.raises(CorpusError, match=told):
        Upload(name, data)


def test_an_upload_lies_under_its_hash_and_not_under_a_users_words(store):
    layout = store.registry.layout
    upload = Upload("../../etc/\x1b[31mpass\nwd.txt", b"A contract.")
    assert upload.shown == "?[31mpass?wd.txt"
    about = describe_source(upload, layout)
    assert about == {"upload": f"upload-{upload.sha256}.txt", "name": upload.shown}
    path = upload.stage(layout)
    assert path.parent == layout.staging
    assert find_source(about, layout) == (path, upload.shown)
    path.unlink()
    with readable(upload, layout) as (looked_at, name):
        assert looked_at.read_bytes() == upload.data
        assert (looked_at.parent, name) == (layout.staging, upload.shown)
    assert not looked_at.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whatever_a_folder_is_read_for_may_be_uploaded(store, suffix):
    layout = store.registry.layout
    upload = Upload(f"notes{suffix.upper()}", b'{"text": "A contract."}')
    path = upload.stage(layout)
    assert [d.source for d in read_corpus(path, name=upload.shown).documents]
    assert find_source(describe_source(upload, layout), layout) == (path, upload.shown)
    assert path in layout.job_files()
    path.unlink()


def test_an_upload_that_a_repair_took_away_is_told_as_that(store):
    upload = Upload("notes.txt", b"A contract.")
    told = r"notes\.txt was removed while it was looked at: a repair or a purge .* look at it again"

    def look():
        with readable(upload, store.registry.layout) as (path, name):
            path.unlink()
            read_corpus(path, name=name)

    with pytest.raises(StateError, match=told):
        look()


def write_fact(path):
    fact = {"subject": "quartz", "relation": "is", "answer": "hard", "statement": "Quartz is hard"}
    path.write_text(json.dumps(fact) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("hold_out_percent", [23.0, 0.0])
def test_what_is_learned_and_held_out_is_what_an_ingest_then_does(made, tmp_path, hold_out_percent):
    facts = write_fact(tmp_path / "facts.jsonl")
    corpus = write_corpus(tmp_path / "more-law.jsonl", "law", num=30, seed=5)
    with corpus.open("a", encoding="utf-8") as file:  # what law holds out is given again, too
        file.write((made.parent / "law.jsonl").read_text(encoding="utf-8"))
    quick = TrainingSettings(
        text_passes=1.0, fact_passes=1.0, least_steps=1, hold_out_percent=hold_out_percent
    )
    with open_store(copy_store(made, tmp_path), who="ann") as store:
        found = preview(store, "law", corpus, facts=facts, settings=quick)
        told, _ = read_facts(facts)
        report = store.ingest("law", read_corpus(corpus).documents, facts=told, settings=quick)
        documents = store.registry.documents("law")
        segment = store.registry.domain("law").chain[-1]
    new = [one for one in documents if one.segment_id == segment.id and one.kind != "probe"]
    assert found.num_new == len(new)
    assert found.num_to_learn == sum(one.split == "train" for one in new)
    assert found.num_to_hold_out == sum(one.split != "train" for one in new)
    assert (found.num_to_hold_out > 0) is (hold_out_percent > 0)
    assert found.is_measurable is (hold_out_percent > 0)
    assert found.size_bytes == pytest.approx(report.size_bytes, rel=0.1)


def test_one_text_is_learned_and_nothing_is_left_to_measure_on(store, tmp_path):
    corpus = lines(tmp_path / "one.jsonl", *sentences("minerals", 1))
    found = preview(store, "minerals", corpus)
    assert (found.num_to_learn, found.num_to_hold_out, found.is_measurable) == (1, 0, False)
    assert found.is_tiny
    assert preview(store, "law", corpus).is_measurable, "law has texts that are held out"
