import os
import socket
import subprocess
from contextlib import closing

import pytest
from filled_store import new_store

from stores import Registry


def test_list_shows_each_domain_and_its_state(at):
    for words in (["freeze", "law"], ["disable", "law"], ["remove", "medicine"]):
        at(*words)
    title, _, law, medicine = at("list").out.splitlines()
    assert title == "1 of 4 domains live in snapshot 7"
    assert law.split()[:4] == ["law", "v2", "frozen,", "disabled"]
    assert "removed" in medicine.split()


def test_an_empty_store_lists_what_to_do_next(peer_cl, tmp_path):
    new_store(tmp_path / "empty").close()
    assert "peer-cl ingest DOMAIN PATH" in peer_cl("list", store=tmp_path / "empty").out


@pytest.mark.parametrize(("verb", "alias"), [("list", "domains"), ("log", "history")])
def test_aliases_are_the_verbs(at, verb, alias):
    assert at(verb, "--json").json == at(alias, "--json").json


def test_show_tells_versions_and_log(at):
    shown = at("show", "law").out
    assert "law: live, v2" in shown
    assert "2 texts and 1 facts learned, 2 texts held out" in shown
    detail = at("show", "law", "--json").json
    assert [one["label"] for one in detail["versions"]] == ["v1", "v2"]
    assert detail["versions"][0]["losses"] == [[1, 3.5, None], [2, 2.5, 3.0]]


def test_documents_can_be_narrowed(at):
    assert len(at("documents", "law", "--json").json) == 6
    facts = at("documents", "law", "--kind", "fact", "--json").json
    assert [one["title"] for one in facts] == ["[About] law 1"]
    assert len(at("documents", "law", "--split", "test", "--kind", "text", "--json").json) == 2
    assert "5 more; --limit" in at("documents", "law", "--limit", 1).out


def test_a_document_shows_text_and_places(at):
    document_id = at("documents", "law", "--json").json[0]["document_id"]
    shown = at("document", document_id[:8]).out
    assert document_id in shown
    assert "it owns no experts" in shown
    found = at("document", document_id, "--json").json
    assert found["text"].startswith("law ")
    assert [place["label"] for place in found["places"]] == ["v1"]
    assert found["owned"] == []


def test_log_is_newest_first_and_users_words_cannot_steer_the_terminal(at):
    events = at("log", "--json").json
    assert [one["action"] for one in events] == ["ingest", "ingest", "ingest", "create"]
    only = at("log", "--domain", "medicine", "--limit", 5, "--json").json
    assert [one["domain"] for one in only] == ["medicine"]
    at("freeze", "law", "-m", "\x1b[31m[bold]red[/bold]")
    assert "?[31m[bold]red[/bold]" in at("log").out


def test_status_says_in_ten_lines_what_is_missing_and_what_runs(at, folder):
    shown = at("status").out.splitlines()
    assert len(shown) <= 10
    assert shown[1] == "live: 2 of 4 domains: law v2, medicine v1"
    assert shown[-1] == "no problem found"
    with closing(Registry.open(folder)) as registry:
        registry.objects.delete(registry.queries.domain("law").chain[0].objects["shared.0"])
        registry.start_run("ingest", "law", "ann", "")
    problems = at("status", "--json").json["problems"]
    assert problems == ["law lacks stored objects: `peer-cl doctor` names them"]
    run = at("runs", "--json").json[0]
    assert (run["host"], run["pid"]) == (socket.gethostname(), os.getpid())
    assert "running: ingest law" in at("status").out


def test_status_says_how_what_was_killed_goes_on(at, folder, monkeypatch):
    with subprocess.Popen(["true"]) as gone, closing(Registry.open(folder)) as registry:
        gone.wait()
        monkeypatch.setattr("os.getpid", lambda: gone.pid)
        for kind, domain in (("evaluate", None), ("erase", "law")):
            registry.start_run(kind, domain, "ann", "")
    monkeypatch.undo()
    assert sorted(at("status", "--json").json["problems"]) == [
        "the erase law was killed: run `peer-cl erase --wait`",
        "the evaluate was killed: run the same command again",
    ]


def test_an_evaluation_holds_until_other_versions_are_on(at, folder):
    def evaluated():
        return next(line for line in at("status").out.splitlines() if "evaluated" in line)

    assert evaluated() == "evaluated: no; `peer-cl evaluate` does"
    with closing(Registry.open(folder)) as registry:
        registry.put_evaluation(registry.queries.live().id, {})
    at("freeze", "law")
    assert evaluated() == "evaluated: yes"
    at("disable", "law")
    assert evaluated() == (
        "evaluated: no (last at snapshot 4, in other versions); `peer-cl evaluate` does"
    )
    at("enable", "law")
    assert at("status", "--json").json["is_evaluated"]


def test_doctor_finds_damage_and_says_so_with_its_exit_code(at, folder):
    assert at("doctor").out == "all is well\n"
    with closing(Registry.open(folder)) as registry:
        path = registry.objects.path(registry.queries.domain("law").chain[0].objects["shared.0"])
    path.chmod(0o644)
    path.write_bytes(b"something else")
    found = at("doctor", "--json")
    assert (found.code, "error" in [one["severity"] for one in found.json]) == (1, True)
