import errno
import re
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from damage import spoil_page
from filled_store import grow, new_store
from tiny_base import make_tiny_store, tiny_settings, write_corpus

from pipelines import open_store
from pipelines.left_out import KEY
from pipelines.probes import REWORDINGS_SOURCE


def test_domains_tells_every_domain_and_its_state(peer_cl, folder):
    peer_cl("freeze", "law", folder=folder)
    peer_cl("disable", "law", folder=folder)
    peer_cl("rollback", "medicine", "--out", folder=folder)
    told = {
        item["domain"]: item for item in peer_cl("domains", "--json", folder=folder).json["domains"]
    }
    assert told["law"]["label"] == "v2"
    assert told["law"]["is_frozen"]
    assert not told["law"]["is_enabled"]
    assert not told["medicine"]["is_live"]
    shown = peer_cl("domains", folder=folder).out
    assert "frozen, disabled" in shown
    assert re.search(r"medicine\W+-\W+out\b", shown)
    assert "1 of 4 domains live in snapshot 7" in shown


def test_an_empty_store_says_what_to_do(peer_cl, tmp_path):
    result = peer_cl("domains", folder=new_store(tmp_path / "empty"))
    assert result.code == 0
    assert "no domain yet" in result.out


def test_show_gives_versions_documents_and_events(peer_cl, folder):
    detail = peer_cl("show", "law", "--json", "--documents", folder=folder).json
    assert [version["label"] for version in detail["versions"]] == ["v1", "v2"]
    assert len(detail["documents"]) == detail["summary"]["num_documents"] == 6
    assert detail["documents_by_split"] == {"train": 4, "test": 2}
    shown = peer_cl("show", "law", "--documents", folder=folder).out
    assert "[About] law 0" in shown, "a title is printed as it is, not read as markup"
    assert "v2" in shown


def test_show_of_a_domain_that_was_taken_out(peer_cl, folder):
    peer_cl("rollback", "medicine", "--out", folder=folder)
    result = peer_cl("show", "medicine", "--documents", folder=folder)
    assert result.code == 0
    assert result.out.startswith("medicine: out\n")
    assert "rolled back" not in result.out


def test_documents_are_listed_and_narrowed(peer_cl, folder):
    every = peer_cl("documents", "law", "--json", folder=folder).json
    assert len(every) == 6
    tests = peer_cl("documents", "law", "--split", "test", "--json", folder=folder).json
    assert tests == [item for item in every if item["split"] == "test"]
    shown = peer_cl("documents", "law", "--limit", "2", folder=folder).out
    assert every[0]["document_id"][:12] in shown
    assert every[0]["source"] in shown
    assert "4 more" in shown
    gone = peer_cl("documents", "laws", folder=folder)
    assert gone.code == 2
    assert "Did you mean 'law'?" in gone.err


def test_questions_and_rewordings_are_called_so_and_listed_apart(peer_cl, tmp_path):
    folder = new_store(tmp_path / "asked")
    grow(folder, "law", num_documents=5, kinds={1: "fact", 3: "probe", 4: "probe"})
    with sqlite3.connect(folder / "registry.sqlite") as registry:
        kept = "UPDATE segment_documents SET source = ? WHERE kind = 'probe' AND position = 4"
        registry.execute(kept, (REWORDINGS_SOURCE,))
    registry.close()
    every = peer_cl("documents", "law", "--json", folder=folder).json
    both = [item for item in every if item["kind"] == "probe"]
    for kind, found, why in (
        ("question", both[:1], "tests what was learned, and is never learned itself"),
        ("rewordings", both[1:], "the rows are those of the document that it says otherwise"),
    ):
        words = ("documents", "law", "--kind", kind)
        assert peer_cl(*words, "--json", folder=folder).json == found
        shown = peer_cl(*words, folder=folder).out
        assert kind in shown
        assert "probe" not in shown
        told = peer_cl("document", found[0]["document_id"], folder=folder).out
        assert f"({kind}, 10 tokens)" in told
        assert why in told
        assert "held out" not in told
    assert peer_cl("documents", "law", "--kind", "probe", "--json", folder=folder).json == both


def test_a_document_is_found_by_the_beginning_of_its_id(peer_cl, folder):
    wanted = peer_cl("documents", "law", "--json", folder=folder).json[-1]
    told = peer_cl("document", wanted["document_id"][:8], "--json", folder=folder).json
    (place,) = [item for item in told["places"] if item["document"]["domain"] == "law"]
    assert place["document"] == wanted
    assert place["label"] == "v2"
    assert place["is_live"]
    detail = peer_cl("show", "law", "--json", folder=folder).json
    assert place["run_id"] == detail["runs"][-1]["run_id"]
    came = [event for event in detail["events"] if event["action"] == "ingest"]
    assert place["snapshot_id"] == came[0]["snapshot_id"]
    peer_cl("rollback", "law", folder=folder)
    shown = peer_cl("document", wanted["document_id"].upper(), folder=folder)
    assert shown.code == 0, shown.err
    assert "not live" in shown.out
    assert wanted["document_id"] in shown.out


@pytest.mark.parametrize("wanted", ["ff", "", "%", "../x", "z" * 64, "0" * 64])
def test_an_unknown_document_names_the_nearest(peer_cl, folder, wanted):
    result = peer_cl("document", wanted, folder=folder)
    assert result.code == 2
    assert "no document" in result.err
    nearest = result.err.split("the nearest is ")[1].split(",")[0]
    known = [
        item["document_id"] for item in peer_cl("documents", "law", "--json", folder=folder).json
    ]
    known += [
        i["document_id"] for i in peer_cl("documents", "medicine", "--json", folder=folder).json
    ]
    assert nearest in {one[:12] for one in known}


def test_a_document_of_an_empty_store_is_unknown(peer_cl, tmp_path):
    result = peer_cl("document", "abcdef", folder=new_store(tmp_path / "empty"))
    assert result.code == 2
    assert "there is none yet" in result.err


def test_history_is_newest_first_and_can_be_narrowed(peer_cl, folder):
    peer_cl("freeze", "law", "--who", "bob", "--why", "it is done", folder=folder)
    events = peer_cl("history", "--json", folder=folder).json
    assert (events[0]["action"], events[0]["who"], events[0]["why"]) == (
        "freeze",
        "bob",
        "it is done",
    )
    assert [event["id"] for event in events] == sorted((e["id"] for e in events), reverse=True)
    assert len(peer_cl("history", "--limit", "2", "--json", folder=folder).json) == 2
    told = peer_cl("history", "--limit", "2", folder=folder).out
    assert told.endswith("3 more; --limit shows more of them\n")
    assert "more" not in peer_cl("history", folder=folder).out
    only = peer_cl("history", "--domain", "medicine", "--json", folder=folder).json
    assert {event["domain"] for event in only} == {"medicine"}


def test_history_says_what_a_rollback_was(peer_cl, folder):
    for words in (
        ("rollback", "law", "--to", "v1"),
        ("rollback", "law", "--out"),
        ("bring-back", "law"),
        ("rollback", "--to", "4"),
    ):
        assert peer_cl(*words, folder=folder).code == 0
    told = peer_cl("history", "--limit", "4", folder=folder).out
    at = [told.index(words) for words in ("restore snapshot 4", "bring back", "take out", "roll b")]
    assert at == sorted(at)
    assert "roll back to v1" in told
    acts = peer_cl("history", "--limit", "4", "--json", folder=folder).json
    assert [(one["action"], one["act"], one["label"]) for one in acts] == [
        ("rollback", "restore snapshot 4", None),
        ("rollback", "bring back", "v1"),
        ("rollback", "take out", "v1"),
        ("rollback", "roll back to v1", "v1"),
    ]
    of_law = peer_cl("show", "law", "--json", folder=folder).json["events"]
    assert of_law[:4] == acts
    shown = peer_cl("show", "law", folder=folder).out
    assert "roll back to v1" in shown
    assert "take out" in shown


def test_a_domains_history_tells_the_restore_that_brought_it_back(peer_cl, folder):
    peer_cl("rollback", "medicine", "--out", folder=folder)
    peer_cl("rollback", "--to", "4", "--why", "missed", folder=folder)
    detail = peer_cl("show", "medicine", "--json", folder=folder).json
    newest = detail["events"][0]
    assert (newest["snapshot_id"], newest["why"]) == (6, "missed")
    assert detail["summary"]["changed_at"] == newest["at"]
    for words in (("show", "medicine"), ("history", "--domain", "medicine")):
        told = peer_cl(*words, folder=folder).out
        assert told.index("restore snapshot 4") < told.index("take out")
    assert "restore snapshot" not in peer_cl("show", "law", folder=folder).out


def test_doctor_is_content_with_a_good_store(peer_cl, folder):
    result = peer_cl("doctor", folder=folder)
    assert result.code == 0
    assert "error" not in result.out


@pytest.mark.parametrize("what", ["flipped", "missing"])
def test_doctor_names_a_damaged_object(peer_cl, folder, what):
    pool = peer_cl("show", "medicine", "--json", folder=folder).json["chain"][0]["pool_object"]
    path = folder / "objects" / pool[:2] / pool
    data = bytearray(path.read_bytes())
    path.unlink()
    if what == "flipped":
        data[0] ^= 1
        path.write_bytes(data)
    result = peer_cl("doctor", folder=folder)
    assert result.code == 1
    assert "the pool of medicine v1" in result.out
    found = peer_cl("doctor", "--json", folder=folder)
    assert found.code == 1
    assert [item["severity"] for item in found.json if pool in item["what"]] == ["error"]


def test_doctor_removes_leftovers_when_told(peer_cl, folder):
    (folder / "staging" / f"{'0a' * 16}.part").write_bytes(b"half written")
    told = peer_cl("doctor", folder=folder)
    assert told.code == 0
    assert "leftovers" in told.out
    assert peer_cl("doctor", "--repair", folder=folder).code == 0
    assert not list((folder / "staging").iterdir())


def test_the_store_is_found_before_and_after_the_verb_and_in_the_environment(
    peer_cl, folder, tmp_path, monkeypatch
):
    other = new_store(tmp_path / "other")
    grow(other, "botany")
    assert "law" in peer_cl("--store", folder, "domains").out
    assert "law" in peer_cl("domains", "--store", folder).out
    assert "botany" in peer_cl("--store", folder, "domains", "--store", other).out, "the later wins"
    monkeypatch.setenv("PEER_CL_STORE", str(other))
    assert "botany" in peer_cl("domains").out
    assert "law" in peer_cl("domains", "--store", folder).out
    monkeypatch.delenv("PEER_CL_STORE")
    monkeypatch.chdir(tmp_path)
    assert "law" in peer_cl("domains").out, "./knowledge is the default"


def test_a_damaged_registry_is_one_line(peer_cl, folder):
    (folder / "registry.sqlite").write_bytes(b"no database" * 1000)
    for name in ("registry.sqlite-wal", "registry.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(folder / "registry.sqlite").execute("PRAGMA user_version").fetchall()
    result = peer_cl("domains", folder=folder)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert f"{folder / 'registry.sqlite'} is damaged" in result.err
    assert "restore it from a copy" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "is_folder", "told"),
    [
        ("store.toml", True, "Is a directory; move the folder that is in the way"),
        ("staging", False, "File exists; move what is in the way"),
    ],
)
def test_a_path_of_the_store_that_cannot_be_used_is_one_line(
    peer_cl, folder, name, is_folder, told
):
    path = folder / name
    path.rename(folder / "away")
    path.mkdir() if is_folder else path.write_text("a file")
    result = peer_cl("domains", folder=folder)
    assert result.code == 2
    assert result.err.startswith(f"error: cannot use {path}: {told}")
    assert result.err.count("\n") == 1


def test_a_store_without_permission_is_one_line(peer_cl, folder, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # modes do not stop root, who may run this
    result = peer_cl("domains", folder=folder)
    assert result.code == 2
    told = f"error: cannot use {folder / 'store.toml'}: Permission denied; let your user read"
    assert result.err.startswith(told)


@pytest.mark.parametrize("verb", ["history", "jobs"])
def test_a_limit_that_no_database_knows_is_refused(peer_cl, folder, verb):
    result = peer_cl(verb, "--limit", 10**20, folder=folder)
    assert result.code == 2
    assert "2147483647" in result.err
    assert "fault of peer-cl" not in result.err


def test_doctor_of_a_damaged_registry_says_to_restore_it(peer_cl, folder):
    spoil_page(folder, "jobs")
    result = peer_cl("doctor", folder=folder)
    assert result.code == 1
    assert result.err == ""
    assert "error: the registry is damaged: " in result.out
    assert all(line.endswith("; restore it from a copy") for line in result.out.splitlines())


def test_a_domain_that_is_out_has_no_version_to_tell(peer_cl, folder):
    peer_cl("rollback", "law", "--out", folder=folder)
    shown = peer_cl("show", "law", "--documents", folder=folder).out
    assert shown.startswith("law: out\n")
    assert "None" not in shown
    assert "documents: it has no live version" in shown


def test_a_reader_that_has_read_enough_ends_the_verb_without_a_word(folder):
    words = [sys.executable, "-m", "app", "--store", str(folder), "documents", "law"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        verb.stdout.close()
        assert verb.stderr.read() == b""
        assert verb.wait() == 141


def test_a_reader_that_stops_within_a_table_ends_the_verb_without_a_word_too(folder):
    """Where the title was still read, it is the table's own writer that meets the end."""
    words = ["--store", str(folder), "documents", "law"]
    script = "import sys, app.output, app.cli; app.output.say = lambda *_, **__: None; "
    script += f"sys.exit(app.cli.main({words!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as verb:
        verb.stdout.close()
        assert verb.stderr.read() == b""
        assert verb.wait() == 141


def test_what_an_ingest_left_out_is_kept_and_not_printed(peer_cl, tmp_path):
    place = make_tiny_store(tmp_path, domains=("law",))
    more = write_corpus(tmp_path / "more.jsonl", "law", num=8, seed=9)
    more.write_text((tmp_path / "law.jsonl").read_text() + more.read_text())
    with open_store(place) as store:
        store.ingest("law", more, settings=replace(tiny_settings(), hold_out_percent=0.0))
        kept = store.registry.domain("law").runs[-1].config[KEY]["texts"]
    told = peer_cl("show", "law", "--json", folder=place)
    assert len(kept) > 20
    assert KEY not in told.out
    assert told.json["runs"][-1]["config"]["hold_out_percent"] == 0
