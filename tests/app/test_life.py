import io
from contextlib import closing

import pytest
from filled_store import portrait

from stores import Registry


def state(folder):
    with closing(Registry.open(folder)) as registry:
        return portrait(registry)


@pytest.mark.parametrize(
    ("verb", "back"), [("freeze", "unfreeze"), ("disable", "enable"), ("remove", "restore")]
)
def test_an_act_can_be_undone_by_its_opposite_and_by_a_rollback(at, verb, back):
    before = at("list", "--json").json[0] | {"changed_at": ""}
    done = at(verb, "law", "--author", "bob", "-m", "because", "--json")
    assert done.json["id"] == 5
    assert at("list", "--json").json[0] | {"changed_at": ""} != before
    event = at("log", "--json").json[0]
    assert (event["author"], event["message"]) == ("bob", "because")
    assert at(back, "law").code == 0
    assert at("list", "--json").json[0] | {"changed_at": ""} == before
    undone = at("rollback", "--to", 5).out
    assert undone == "the store is as in snapshot 5; snapshot 7 (undo: `peer-cl rollback --to 6`)\n"


def test_a_domain_rolls_back_one_version_or_to_a_named_one(at):
    assert at("rollback", "law").out.startswith("law is at v1; snapshot 5")
    assert at("rollback", "law", "--to", "v1").code == 2
    assert at("rollback", "--to", 4).code == 0


def test_erased_documents_come_back_only_where_that_is_said(at, folder):
    gone = at("documents", "law", "--json").json[-1]["document_id"]
    with closing(Registry.open(folder)) as registry:
        first, last = registry.queries.domain("law").chain
        registry.replace_segments("law", last.id, first.id, [], [gone], "ann")
    refused = at("rollback", "--to", 4)
    assert (refused.code, "--with-erased" in refused.err) == (2, True)
    assert at("rollback", "--to", 4, "--with-erased").code == 0
    at("remove", "law")
    assert at("restore", "law").code == 2
    assert at("restore", "law", "--with-erased").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollback"], "say what to roll back"),
        (["rollback", "--to", "v1"], "say what to roll back"),
        (["rollback", "--to", "99"], "no snapshot 99"),
        (["rollback", "law", "--without-purged"], "--without-purged is for a snapshot"),
        (["rollback", "law", "--to", "v9"], "v9"),
        (["freeze", "lw"], "Did you mean 'law'"),
        (["restore", "law"], "law"),
        (["erase"], "in one way"),
        (["erase", "abcdef", "--source", "law.txt"], "in one way"),
        (["erase", "--source", "lw.txt"], "Did you mean 'law.txt'"),
        (["erase", "--search", "no such words"], "no live document has 'no such words'"),
        (["erase", "abcdef"], "abcdef"),
        (["purge", "law"], "law"),
        (["report"], "nor one before it was evaluated"),
        (["report", "--snapshot", "99"], "no snapshot 99"),
        (["show", "lw"], "error: no domain 'lw'; known: law, medicine. Did you mean 'law'?"),
        (["show"], "error: Missing argument 'DOMAIN'; see `peer-cl show --help`"),
        (["log", "--limit", "0"], "error: Invalid value for '--limit'"),
        (["log", "--nothing"], "error: No such option: --nothing"),
        (["documents", "law", "--split", "all"], "error: Invalid value for '--split'"),
        (["lists"], "Did you mean 'list'?"),
        (["ingest", "law", ""], "names no file or folder"),
        (["ingest", "law"], "there is nothing to learn"),
        (["ingest", "Law!", "notes.txt"], "domain cannot be called"),
        (["generate", "a prompt", "--oracle"], "name one domain"),
        (["generate", "a prompt", "--domain", "lw"], "Did you mean 'law'"),
        (["trace"], "give either a text or --document"),
        (["experts", "law", "--layer", "1", "--expert", "1:1"], "leave out --layer"),
    ],
)
def test_a_mistake_is_one_line_that_changes_nothing(at, folder, words, said):
    before = state(folder)
    done = at(*words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert state(folder) == before


@pytest.mark.parametrize("words", [["erase", "--source", "law.txt"], ["purge", "medicine"]])
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_what_destroys_asks_first(at, folder, monkeypatch, words, answer):
    at("remove", "medicine")
    before = state(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    done = at(*words)
    assert (done.code, "nothing was changed" in done.err) == (130, True)
    assert state(folder) == before


AGAIN = "; run it again to go on where it stopped"


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (["ingest", "law", "law.txt"], AGAIN),
        (["study", "law.txt", "--out", "made.jsonl"], AGAIN),
        (["evaluate"], AGAIN),
        (["demo"], AGAIN),
        (["ingest", "law", "law.txt", "--dry-run"], ""),
        (["erase", "--search", "law", "--yes"], ""),
        (["verify"], ""),
    ],
)
def test_ctrl_c_says_that_a_verb_goes_on_only_where_it_does(at, tmp_path, monkeypatch, words, how):
    def interrupt():
        raise KeyboardInterrupt

    for module in ("learn", "life", "ask"):
        monkeypatch.setattr(f"app.{module}.show_progress", interrupt)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "law.txt").write_text("The court sat.")
    done = at(*words)
    assert (done.code, done.err) == (130, f"error: interrupted{how}\n")


@pytest.mark.parametrize("how", [("--source", "law.txt"), ("--search", "ABOUT] LAW")])
@pytest.mark.parametrize(
    ("wait", "asked"),
    [
        ((), "Erase 5 documents?"),
        (("--wait",), "Erase 5 documents and train shards of law again?"),
    ],
)
def test_erase_lists_what_it_would_take(at, monkeypatch, how, wait, asked):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = at("erase", *how, *wait)
    first, document = done.err.splitlines()[0], at("documents", "law", "--json").json[0]
    named = "law: {title} ({source}), {kind}".format(**document)
    assert first == f"{named} {document['document_id'][:12]}"
    assert done.err.count("(law.txt)") == 5  # the question goes with its fact, and is not named
    assert asked in done.err


def test_erasing_a_fact_names_no_training(at, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    fact = at("documents", "law", "--kind", "fact", "--json").json[0]["document_id"]
    assert "Erase 1 document?" in at("erase", fact, "--wait").err


def test_where_nothing_waits_to_be_trained_nothing_is_changed(at, folder):
    before = state(folder)
    done = at("erase", "--wait")
    assert (done.code, done.out) == (0, "no shared experts wait to be trained anew\n")
    assert state(folder) == before


def test_purge_deletes_a_removed_domain_for_ever(at):
    at("remove", "medicine")
    done = at("purge", "medicine", "--yes", "--json")
    assert (done.code, done.json["num_segments"], done.json["num_documents"]) == (0, 1, 3)
    assert at("list", "--json").json[1]["is_purged"]
    assert at("restore", "medicine").code == 2
    assert at("rollback", "--to", 3).code == 2
    assert at("rollback", "--to", 3, "--without-purged").code == 0
