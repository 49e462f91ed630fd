"""The store that pages see, acting on it, and verbs as processes."""

import pytest

from app.dashboard import server_command, state
from app.dashboard.page_domains import purge, switches
from app.dashboard.processes import new_folder, processes, run_of, start_process
from app.dashboard.state import View, attempt
from peer_cl.errors import InputError
from pipelines import open_store


@pytest.fixture
def seen(folder):
    with open_store(folder) as store:
        yield View(store, store.registry.queries.live(), store.registry.queries.domains())


def live(folder):
    with open_store(folder) as store:
        return store.registry.queries.live()


def test_an_act_is_done_on_the_snapshot_that_was_seen(seen, folder):
    done = attempt(folder, seen.live.id, "It is frozen.", lambda store: store.freeze("law", "why"))
    assert (done.done, done.error) == ("It is frozen.", "")
    assert live(folder).state("law").is_frozen
    assert seen.queries.events(limit=1)[0].message == "why"


def test_an_act_on_a_store_that_changed_is_refused(seen, folder):
    seen.store.freeze("medicine")
    changed = attempt(folder, seen.live.id, "done", lambda store: store.freeze("law"))
    assert "changed meanwhile" in changed.error
    assert not live(folder).state("law").is_frozen


def test_an_act_that_the_store_refuses_says_why(seen, folder):
    refused = attempt(folder, seen.live.id, "done", lambda store: store.enable("law"))
    assert refused.done == ""
    assert "already enabled" in refused.error


def test_what_a_domain_s_state_allows(seen):
    seen.store.disable("law")
    seen.store.freeze("law")
    seen.store.remove("medicine")
    law, medicine = seen.queries.domains()
    assert switches(law) == ["Unfreeze", "Enable", "Remove"]
    assert switches(medicine) == ["Restore"]


def test_a_purge_needs_the_name(seen):
    seen.store.remove("law")
    with pytest.raises(InputError, match="type the domain's name, law"):
        purge(seen.store, "law", "lav", "", retired=False)
    assert "4 documents" not in purge(seen.store, "law", " law ", "", retired=False)
    (law, _) = seen.queries.domains()
    assert law.is_purged
    assert switches(law) == []


def test_colours_stay_when_domains_come(seen):
    before = seen.colours
    seen.store.remove("medicine")
    after = View(seen.store, seen.queries.live(), seen.queries.domains())
    assert after.colours == before
    assert list(before) == ["base", "law", "medicine"]


def test_the_store_is_named_by_option_variable_or_default(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["main.py", "--store", str(tmp_path / "a")])
    monkeypatch.setenv("PEER_CL_STORE", str(tmp_path / "b"))
    assert state.store_folder() == tmp_path / "a"
    monkeypatch.setattr("sys.argv", ["main.py"])
    assert state.store_folder() == tmp_path / "b"
    monkeypatch.delenv("PEER_CL_STORE")
    assert state.store_folder().name == "knowledge"


def test_the_server_listens_on_loopback_alone(tmp_path):
    words = server_command(tmp_path, port=8501)
    assert "--server.address=127.0.0.1" in words
    assert words[-2:] == ["--store", str(tmp_path)]


def test_labels_show_texts_as_they_are():
    assert state.plain("**a** <b>\n:red[x]") == r"\*\*a\*\* \<b\> \:red\[x\]"


def test_a_verb_runs_as_a_process_and_says_why_it_failed(seen):
    process = start_process(seen, ["show", "nothing"])
    assert process.popen.wait(120) == 2
    assert "no domain 'nothing'" in process.last_line
    assert process.last_line == process.last_line  # the folder is gone, the line is kept
    assert processes()[process.popen.pid] is process
    assert run_of(process, seen.queries.runs()) is None


def test_a_process_may_take_a_folder_with_uploads(seen):
    folder = new_folder()
    process = start_process(seen, ["list"], folder)
    assert process.popen.wait(120) == 0
    assert not process.is_running
    assert process.folder is folder
