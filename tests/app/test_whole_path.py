"""The verbs that need a model, on a tiny base."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_base import background, make_tiny_base, sentences
from tiny_files import write_files
from tiny_store import copy_store

SETTINGS = """
text_passes = {passes}
min_steps = 1
num_shards = 2
precision = "fp32"
shape = {{num_experts = 64, num_heads = 2, top_k = 4, key_width = 16}}
"""
FACT = {"subject": "house 1", "relation": "owner", "answer": "rent"}
FACTS = [
    {**FACT, "statement": "The owner of house 1 is rent.", "paraphrase_prompts": ["house 1 is of"]},
    {"subject": "house 2"},
]


@pytest.fixture
def place(tiny_store, tmp_path):
    """The folder of a store that learned law and medicine."""
    return copy_store(tiny_store, tmp_path)


@pytest.fixture
def at(peer_cl, place):
    """Run a verb on it."""
    return lambda *words: peer_cl(*words, store=place)


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def corpus(folder, passes=3.0):
    """Write a corpus whose last line is malformed, and return the words that name it."""
    (folder / "settings.toml").write_text(SETTINGS.format(passes=passes), encoding="utf-8")
    texts = [{"text": text} for text in sentences("minerals", 12, seed=5)]
    path = write_lines(folder / "minerals.jsonl", [*texts, {"title": "no text"}])
    return [path, "--settings", folder / "settings.toml"]


def test_init_makes_a_store_and_refuses_a_second_one(peer_cl, tmp_path):
    make_tiny_base(tmp_path / "base")
    texts = write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in background()])
    words = ["init", "--base", tmp_path / "base", "--background", texts, "--host-layers", "1,3"]
    made = peer_cl(*words, store=tmp_path / "new")
    assert made.code == 0
    assert "host layers 1, 3; capacity 16" in made.out
    assert "begin to learn at random" in made.out
    assert "at most 0.0202 nats a document" in made.out
    again = peer_cl(*words, store=tmp_path / "new")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert peer_cl("init", "--host-layers", "one", store=tmp_path / "other").code == 2


def test_ingest_tells_what_it_learned_and_left_out(at, tmp_path):
    facts = write_lines(tmp_path / "facts.jsonl", FACTS)
    words = ["ingest", "law", *corpus(tmp_path), "--facts", facts]
    assert at(*words).code == 2  # the second fact is malformed
    done = at(*words, "--on-bad-row", "skip")
    assert done.code == 0
    for said in (
        "law is at v2 in snapshot 4",
        "1 fact; held",
        "minerals.jsonl:13",
        "facts.jsonl:2",
    ):
        assert said in done.out
    known = at(*words, "--on-bad-row", "skip")
    assert (known.code, "nothing new for 'law'" in known.err) == (2, True)


def test_ingest_prints_its_report_as_json(at, tmp_path):
    words = ["--hold-out", 0, "--seed", 3, "--on-bad-row", "skip", "-m", "why", "--json"]
    done = at("ingest", "minerals", *corpus(tmp_path), *words)
    assert (done.code, done.json["label"], done.json["num_held_out_texts"]) == (0, "v1", 0)
    assert [one["place"] for one in done.json["skipped"]] == ["minerals.jsonl:13"]
    (version,) = at("show", "minerals", "--json").json["versions"]
    assert (version["config"]["seed"], version["config"]["shape"]["num_experts"]) == (3, 64)
    assert at("log", "--json").json[0]["message"] == "why"
    assert at("runs", "--json").json[0]["state"] == "done"


def test_files_of_several_formats_are_learned_in_one_go(at, tmp_path):
    (jsonl, *settings) = corpus(tmp_path)
    files = {"more/a.pdf": b"no pdf", "more/b.html": "<h1>Mica</h1><p>Mica is soft.</p>"}
    files |= {"more/blank.txt": " ", **{f"more/{number:02}.png": b"\0" for number in range(11)}}
    write_files(tmp_path, {**files, "more/c.csv": "Stone,Hardness\nquartz,7\n"})
    words = ["ingest", "minerals", jsonl, tmp_path / "more" / "*", *settings]
    done = at(*words, "--on-bad-row", "skip", "--dry-run")
    for out in (done.out, at(*words, "--on-bad-row", "skip").out):
        assert "skipped: more/a.pdf is broken" in out
        assert out.count("not read: ") == 11
        assert "not read: more/00.png is of no format that is read\n" in out
        assert "not read: 2 more\n" in out
        assert "more/c.csv: rows are read whole" in out
    learned = {one["source"] for one in at("documents", "minerals", "--json").json}
    assert {"more/b.html", "more/c.csv:1"} <= learned


def test_a_dry_run_changes_nothing(at, tmp_path):
    words = ["minerals", *corpus(tmp_path), "--on-bad-row", "skip", "--dry-run"]
    before = at("log").out, at("runs").out
    done = at("ingest", *words)
    for said in (
        "minerals would learn",
        "passages, ",
        "takes about 1 minute",
        "minerals.jsonl:1: ",
    ):
        assert said in done.out
    assert at("ingest", *words, "--json").json["num_facts"] == 0
    assert (at("log").out, at("runs").out) == before


def test_evaluate_and_report_agree(at):
    report = at("evaluate", "--json")
    assert (report.code, report.json["domains"]) == (0, ["law", "medicine"])
    assert report.json["background"] == []
    assert at("evaluate", "--max-documents", 2).code == 2
    at("freeze", "law")
    stored = at("report", "--json").json
    assert stored.pop("created_at")
    assert stored == report.json
    shown = at("report").out
    for said in (
        "the last one before snapshot 4",
        "after medicine",
        "retention",
        "no document lost more than",
        "background text is not scored, and the bound not checked on it: --background does",
    ):
        assert said in shown


def test_calibrate_says_what_changed_and_how_to_undo_it(at, tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"What of the court {n}?", "answer": "court"} for n in range(10)]
    rows += [{"question": f"Who plays tuba {n}?"} for n in range(10)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    shown = at("calibrate", file).out
    assert "requests are calibrated; snapshot 4 (undo: `peer-cl rollback --to 3`)" in shown
    assert "now, each by the others: " in shown
    assert at("evaluate", "--keep").code == 2


def test_generate_says_which_branch_wrote(at):
    words = ["generate", "The court of", "--max-new-tokens", 4]
    oracle = at(*words, "--domain", "law", "--oracle", "--json").json
    assert (oracle["writer"], oracle["weights"]) == ("law", {"law": 1.0})
    assert "base alone" in at(*words, "--compare").out
    for domain in ("law", "medicine"):
        at("disable", domain)
    assert "written by base (base 1.000)" in at(*words).out


def test_trace_shows_tokens_and_experts(at):
    text = "The court held that the tenant owed no rent"
    found = at("trace", text, "--all", "--experts", 2, "--json").json
    assert [len(found["experts"][name]) for name in ("law", "medicine")] == [2, 2]
    shown = at("trace", text, "--domain", "law").out
    assert "strongest shared experts over the text" in shown
    words = ["trace", "--document", at("documents", "law", "--json").json[0]["document_id"][:8]]
    assert at(*words, "--json").json["snapshot"] == 3
    at("remove", "law")
    removed = at(*words)
    assert (removed.code, "no live and enabled domain" in removed.err) == (2, True)


def test_a_fact_is_found_answered_and_erased(at, tmp_path):
    facts = write_lines(tmp_path / "facts.jsonl", FACTS[:1])
    words = ["--facts", facts, "--on-bad-row", "skip"]
    assert at("ingest", "law", *corpus(tmp_path), *words).code == 0
    assert "learned 0 texts, 1 fact" in at("ingest", "houses", *words).out
    shown = at("experts", "houses").out
    assert FACTS[0]["statement"] in shown
    assert "shared" not in shown
    assert (
        "it owns"
        in at(
            "document", at("documents", "houses", "--kind", "fact", "--json").json[0]["document_id"]
        ).out
    )
    at("disable", "houses")
    prompt = "The owner of house 1 is"
    (found,) = at("search", prompt, "--json").json
    assert (found["statement"], found["is_found"]) == (FACTS[0]["statement"], True)
    traced, shown = at("trace", prompt, "--json").json, at("trace", prompt).out
    assert "facts that the text asks for" in shown
    assert "law enters behind the text" in shown
    (after,) = (line for line in shown.splitlines() if line.startswith("(next)"))
    weight = f"{traced['weights']['law']:.4f}"
    assert after.split() == ["(next)", "-", "-", weight, "-"]
    assert f"weights of the next token: base {traced['base_weight']:.4f}, law {weight}" in shown
    writing = at("generate", prompt, "--max-new-tokens", 1, "--json").json
    assert (writing["writer"], writing["text"]) == ("law", " rent")
    asked = ["Who owns house 1?", "Who owns the law?"]
    answers = at("ask", *asked, "--domain", "law", "--json").json
    assert answers[0]["sources"][0]["sentence"] == FACTS[0]["statement"]
    shown = at("ask", *asked, "--domain", "law").out
    for one in answers:
        assert f"{one['question']}\n" in shown
        assert one["sources"][0]["sentence"] in shown
    assert "from memory: rent" in at("ask", asked[0], "--domain", "law", "--details").out
    (done,) = at("erase", found["document_id"][:8], "--domain", "law", "--yes", "--json").json
    assert (done["num_kept"], done["num_dropped"], done["num_pending"]) == (1, 0, 0)
    assert "it names the subject of no fact" in at("search", prompt).out


def test_experts_shows_a_domain_or_one_expert(at):
    report = at("experts", "law", "--layer", 1, "--limit", 2, "--json").json
    assert [one["host_layer"] for one in report["layers"]] == [1]
    name = "{host_layer}:{expert}".format(**report["busiest"][0])
    assert name in at("experts", "law", "--expert", name).out
    one = at("experts", "law", "--expert", f"v1:{name}", "--json").json
    assert one == report["busiest"][0]
    for wrong in (f"v9:{name}", "one"):
        assert at("experts", "law", "--expert", wrong).code == 2
    assert "busiest shared experts" in at("experts", "law").out


def test_verify_fails_with_its_exit_code(at, place):
    pool = next(path for path in place.glob("objects/*/*") if path.stat().st_size > 50_000)
    pool.chmod(0o644)
    pool.write_bytes(b"damaged")
    done = at("verify")
    assert (done.code, "failed: " in done.out) == (1, True)


def test_an_erased_text_is_gone_at_once_and_its_shard_is_trained_when_asked(at):
    gone = at("documents", "law", "--split", "train", "--json").json[0]["document_id"]
    shown = at("erase", gone[:8], "--yes").out
    assert "law is at v2" in shown
    assert "shared experts pending: 1 shard of law" in shown
    assert gone not in [one["document_id"] for one in at("documents", "law", "--json").json]
    assert "shared experts pending: law;" in at("list").out
    for words in (["status"], ["doctor"], ["experts", "law"], ["trace", "The court", "--all"]):
        assert at(*words).code == 0
    trained = at("erase", "--wait").out.splitlines()
    assert trained[0].startswith("law is at v3")
    assert trained[1:] == ["the shared experts that were pending are trained anew"]
    assert "pending" not in at("list").out
    assert at("purge", "law", "--retired", "--yes").code == 0


def test_what_stays_after_an_erasure_is_named_by_title_and_source(at, tmp_path):
    text = " ".join(sentences("minerals", 4, seed=6))
    rows = [{"title": title, "text": text + end} for title, end in (("one", ""), ("two", " Yes."))]
    path = write_lines(tmp_path / "near.jsonl", rows)
    at("ingest", "minerals", *corpus(tmp_path), path, "--on-bad-row", "skip")
    done = at("erase", "--source", "near.jsonl:1", "--yes").out
    assert "stays and may say the same: two (near.jsonl:2), text " in done


def test_erase_may_wait_for_the_training(at):
    gone = at("documents", "law", "--split", "train", "--json").json[0]["document_id"]
    (done,) = at("erase", gone, "--wait", "--yes", "--json").json
    assert (done["document_ids"], done["num_pending"]) == ([gone], 0)
    assert at("runs", "--json").json[0]["kind"] == "erase"


def test_a_stopped_ingest_is_cancelled(at, place, tmp_path):
    words = ["ingest", "minerals", *corpus(tmp_path, 200.0), "--on-bad-row", "skip", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "app", *map(str, words), "--store", place],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        next(line for line in process.stderr if line.startswith("training"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "error: interrupted; run it again to go on where it stopped"
    assert at("runs", "--json").json[0]["state"] == "cancelled"
    assert [one["domain"] for one in at("list", "--json").json] == ["law", "medicine"]
