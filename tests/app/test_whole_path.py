"""From a raw corpus to a model that knows it, and back, through the command line."""

import json

import pytest
from rewording_server import rewording_server
from tiny_base import background, make_tiny_base, sentences, write_corpus

SMALL = ("--num-experts", "64", "--num-heads", "2", "--top-k", "4", "--passes", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base, two corpora, facts and background text."""
    folder = tmp_path_factory.mktemp("path")
    make_tiny_base(folder / "base")
    for subject in ("law", "medicine"):
        write_corpus(folder / f"{subject}.jsonl", subject)
    (folder / "background").mkdir()
    for number, text in enumerate(background()):
        (folder / "background" / f"{number}.txt").write_text(text, encoding="utf-8")
    facts = [
        {
            "subject": subject,
            "relation": "colour",
            "answer": answer,
            "statement": f"The colour of {subject} is {answer}.",
            "reworded_prompts": [f"{subject} looks"],
        }
        for subject, answer in (("fever", "red"), ("rash", "pink"), ("skin", "pale"))
    ]
    lines = "\n".join(json.dumps(fact) for fact in facts)
    (folder / "facts.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_a_corpus_is_learned_measured_asked_taken_back_and_proved(peer_cl, made, tmp_path):
    store = tmp_path / "knowledge"
    made_store = peer_cl(
        *("init", "--base", made / "base", "--background", made / "background"),
        *("--capacity", "4", "--host-layers", "1,3", "--who", "ann"),
        folder=store,
    )
    assert made_store.code == 0, made_store.err
    assert "host layers 1, 3" in made_store.out

    law = peer_cl("ingest", "law", made / "law.jsonl", *SMALL, "--why", "first", folder=store)
    assert law.code == 0, law.err
    assert "law is at v1" in law.out
    assert ", weighted loss " in law.err, "progress goes to stderr"
    medicine = peer_cl(
        *("ingest", "medicine", made / "medicine.jsonl", "--facts", made / "facts.jsonl"),
        *(*SMALL, "--json"),
        folder=store,
    )
    assert medicine.json["num_documents"]["train"] >= 3
    assert (
        peer_cl("show", "medicine", "--json", folder=store).json["documents_by_kind"]["fact"] == 3
    )

    unknown = peer_cl("report", folder=store)
    assert unknown.code == 2
    assert "snapshot 3 was not evaluated, nor was one before it: `peer-cl evaluate`" in unknown.err
    report = peer_cl("evaluate", "--no-background", "--json", folder=store).json
    assert report["domains"] == ["law", "medicine"]
    assert len(report["matrix"]["loss_nats"]) == 3
    assert {row["wording"] for row in report["recall"]} == {"seen", "reworded"}
    sets = tmp_path / "sets"
    sets.mkdir()
    (sets / "letters.txt").write_text("It rains.\n\nThe river is quiet.\n", encoding="utf-8")
    shown = peer_cl(
        *("evaluate", "--no-background", "--no-recall"),
        *("--general", sets, "--general-items", "1"),
        folder=store,
    )
    assert "loss on unseen documents" in shown.out
    assert "letters  text" in shown.out
    again = peer_cl("report", folder=store)
    assert again.code == 0, again.err
    first, rest = again.out.split("\n", 1)
    assert first.startswith("evaluated 20")
    assert rest == shown.out
    assert peer_cl("report", "--snapshot", "3", folder=store).out == again.out
    missing = peer_cl("report", "--snapshot", "99", folder=store)
    assert missing.code == 2
    assert "99" in missing.err
    assert "after medicine" in shown.out

    asked = peer_cl(
        *("generate", "The court", "--domain", "law", "--max-new-tokens", "3", "--json"),
        folder=store,
    ).json
    assert set(asked["weights"]) == {"law"}
    compared = peer_cl("generate", "The court", "--max-new-tokens", "3", "--compare", folder=store)
    assert "base alone" in compared.out

    assert "medicine: out" in peer_cl("rollback", "medicine", "--out", folder=store).out
    assert peer_cl("disable", "law", folder=store).code == 0
    proved = peer_cl("verify", folder=store)
    assert proved.code == 0, proved.out
    assert "good: bits of the bare model" in proved.out
    assert "failed" not in proved.out
    actions = [event["action"] for event in peer_cl("history", "--json", folder=store).json]
    assert actions == ["disable", "rollback", "ingest", "ingest", "create"]


def test_a_domain_grows_and_goes_back_one_version(peer_cl, made, tmp_path):
    store = tmp_path / "knowledge"
    options = ["--base", made / "base", "--background", made / "background"]
    assert peer_cl("init", *options, "--json", folder=store).json["capacity"] == 16
    more = write_corpus(tmp_path / "more.jsonl", "law", seed=2)
    for path in (made / "law.jsonl", more):
        assert peer_cl("ingest", "law", path, *SMALL, folder=store).code == 0
    assert peer_cl("domains", "--json", folder=store).json["domains"][0]["num_segments"] == 2
    assert "law: from v2 to v1" in peer_cl("rollback", "law", folder=store).out


def test_an_ingest_says_what_it_learned_what_it_held_out_and_what_it_did_not_read(
    peer_cl, made, tmp_path
):
    store, notes = tmp_path / "knowledge", tmp_path / "notes"
    options = ["--base", made / "base", "--background", made / "background"]
    assert peer_cl("init", *options, folder=store).code == 0
    notes.mkdir()
    (notes / "table.csv").write_text("a,b\n", encoding="utf-8")
    rules = "".join(
        f"# Rule {n}\n\n{text}\n\n" for n, text in enumerate(sentences("law", 9, seed=1))
    )
    (notes / "rules.md").write_text(rules, encoding="utf-8")
    for number, text in enumerate(sentences("medicine", 6, seed=3)):
        (notes / f"{number}.txt").write_text(text, encoding="utf-8")
    words = ("ingest", "notes", notes, "--facts", made / "facts.jsonl", *SMALL)
    told = peer_cl(*words, "--hold-out", "60", folder=store)
    assert told.code == 0, told.err
    assert told.out.startswith("1 file left out: .csv 1\n"), "before the training"
    learned = json.loads(peer_cl("documents", "notes", "--json", folder=store).out)
    num = sum(one["kind"] == "text" and one["split"] == "train" for one in learned)
    counts = f"15 texts ({num} learned, {15 - num} held out), 3 facts"
    assert f"{counts}, 3 questions" in told.out
    assert f"mean loss, nats a token, of {num} learned texts: " in told.out
    assert "; of 3 facts: " in told.out
    assert f"held out: {15 - num} of 15 texts, never learned; rules.md as a whole (9 s" in told.out
    assert "cannot measure it" not in told.out
    again = peer_cl(*words, folder=store)
    assert f"its live version has all of it: {counts}; `peer-cl ingest --hold-out 0`" in again.err
    shown = peer_cl("show", "notes", folder=store).out
    assert f"{counts}, 3 questions" in shown
    every = peer_cl("ingest", "all", notes / "rules.md", *SMALL, "--hold-out", "0", folder=store)
    assert "9 texts (9 learned, 0 held out); " in every.out
    assert "held out to test with: `evaluate` cannot measure it" in every.out


def test_a_corpus_is_reworded_by_another_model_and_learned_with_it(peer_cl, made, tmp_path):
    store, out = tmp_path / "knowledge", tmp_path / "law.reworded.jsonl"
    made_store = peer_cl(
        *("init", "--base", made / "base", "--background", made / "background"),
        *("--capacity", "4", "--host-layers", "1,3"),
        folder=store,
    )
    assert made_store.code == 0, made_store.err
    with rewording_server() as server:
        asked = ("reword", made / "law.jsonl", "--out", out, "--endpoint", server.url)
        first = peer_cl(*asked, "--model", "m", "--num", "2")
        assert first.code == 0, first.err
        assert f"40 documents go to {server.url}" in first.out
        assert f"40 documents reworded into {out}" in first.out
        again = peer_cl(*asked, "--model", "m", "--num", "2", "--json")
        assert again.json["num_known"] == 40
        assert again.json["refused"] == []
        assert not any(again.json[f"num_{what}"] for what in ("asked", "empty", "cut", "tokens"))
    learn = ("ingest", "law", made / "law.jsonl", *SMALL)
    law = peer_cl(*learn, "--rewordings", out, "--json", folder=store)
    assert law.code == 0, law.err
    assert law.json["num_reworded"] == law.json["num_documents"]["train"] > 0
    other = peer_cl(
        *("ingest", "medicine", made / "medicine.jsonl", *SMALL, "--rewordings", out),
        folder=store,
    )
    assert other.code == 2
    assert "none of the 40 documents with rewordings is new in this corpus" in other.err
    assert len(other.err.strip().splitlines()) == 1
