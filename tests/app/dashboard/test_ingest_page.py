"""The page Ingest: what it asks, previews, starts and shows of jobs in every state."""

import json
import os
import signal
import subprocess
import time
from io import BytesIO

import pytest
from filled_store import portrait
from large_store import fill_large_store
from pages import NEW_DOMAIN, fill, is_sound, press
from tiny_base import copy_store, make_tiny_store, write_corpus

from app.dashboard.charts.ingest import loss_chart, told_loss
from app.dashboard.frames.ingest import (
    duration,
    losses_frame,
    said,
    share_done,
    speed,
)
from app.dashboard.launch import MAX_UPLOAD_MB
from app.dashboard.page_ingest import START, to_source
from peer_cl.errors import CorpusError
from pipelines.uploads import Upload
from stores import NewJob, Registry
from stores.records import JobProgress

PATH = "Corpus: path on the server (txt, md, markdown, jsonl, or a folder)"
PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("page"), domains=("law",))


@pytest.fixture
def place(made, tmp_path):
    return copy_store(made, tmp_path)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "medicine.jsonl", "medicine")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return fill_large_store(tmp_path_factory.mktemp("large") / "k", documents=500, snapshots=60)


@pytest.fixture
def job(folder):
    """Return a job of the store, after something was done with it."""

    def make(state="running", domain="law", pid=None, **progress):
        with Registry.open(folder) as registry:
            new = registry.jobs.add(
                NewJob(
                    kind="ingest",
                    domain=domain,
                    request={
                        "corpus": {"path": "/data/law.jsonl"},
                        "facts": None,
                        "background": True,
                    },
                    who="bob",
                    why="for *the* [court](http://evil)",
                )
            )
            registry.jobs.assign(new.id, pid or os.getpid())
            if state in ("running", "lost"):
                registry.jobs.start(new.id)
            if progress:
                registry.jobs.tell(new.id, JobProgress(**progress))
            if state == "failed":
                registry.jobs.end(new.id, state, error="law.jsonl:3 is no JSON <b>*bad*</b>")
            elif state in ("done", "cancelled"):
                registry.jobs.end(new.id, state, note=f"law is {state}")
            return registry.jobs.find(new.id)

    return make


def labels(elements):
    return [element.label for element in elements]


# --- what it asks -------------------------------------------------------------------------------


def test_an_empty_store_is_told_what_to_do(run_page, empty_folder):
    at = run_page("ingest", empty_folder)
    assert is_sound(at)
    assert "This store knows nothing yet" in at.info[0].value
    assert any("None yet" in caption.value for caption in at.caption)
    assert {PATH, NEW_DOMAIN} <= set(labels(at.text_input))
    assert "Preview" not in labels(at.button)


def test_a_store_with_domains_offers_them(run_page, folder):
    at = run_page("ingest", folder, domain="medicine")
    assert is_sound(at)
    assert at.selectbox[0].options == ["a new domain", "law", "medicine"]
    assert at.selectbox[0].value == "medicine", "a link from a domain's page leads to its form"
    assert NEW_DOMAIN not in labels(at.text_input)


def test_every_widget_has_a_label(run_page, folder, job):
    job()
    at = run_page("ingest", folder)
    for kind in ("button", "text_input", "selectbox", "radio", "number_input"):
        assert getattr(at, kind), kind
        assert all(labels(getattr(at, kind))), kind


def test_a_large_store_is_shown_at_once(run_page, large):
    run_page("ingest", large)
    began = time.monotonic()
    at = run_page("ingest", large)
    assert is_sound(at)
    assert len(at.selectbox[0].options) == 1 + 50
    assert time.monotonic() - began < 5, "a second is the goal; a busy machine is no failure"


def test_a_damaged_object_does_not_keep_one_from_asking(run_page, folder):
    for path in (folder / "objects").glob("*/*"):
        path.chmod(0o644)
        path.write_bytes(b"spoiled")
    assert is_sound(run_page("ingest", folder))


@pytest.mark.parametrize(
    ("name", "told"),
    [("../law", "looks like a path"), ("Law!", "cannot be used"), ("a b", "cannot be used")],
)
def test_a_name_that_no_domain_can_have_is_told(run_page, folder, tmp_path, name, told):
    before = portrait(folder)
    at = fill(run_page("ingest", folder), tmp_path, name)
    assert len(at.error) == 1
    assert told in at.error[0].value
    assert "Preview" not in labels(at.button)
    assert portrait(folder) == before


# --- the preview and the start --------------------------------------------------------------------


def test_a_path_with_nothing_is_told(run_page, place, tmp_path):
    at = press(fill(run_page("ingest", place), tmp_path / "none", "medicine"), "Preview")
    assert is_sound(at)
    assert "no corpus at" in at.error[0].value
    assert "Start learning" not in labels(at.button)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("~nosuch/notes", "~nosuch/notes names no place"),
        ("x" * 300, "File name too long; give a shorter path"),
    ],
)
def test_a_path_that_cannot_be_is_told_and_jobs_are_shown_still(run_page, place, path, told):
    at = press(fill(run_page("ingest", place), path, "medicine"), "Preview")
    assert is_sound(at)
    assert told in at.error[0].value.replace("\\", "")
    assert "fault" not in at.error[0].value
    assert len(at.error) == 1
    assert "Jobs" in [one.value for one in at.subheader]


def test_paths_are_read_only_below_what_is_offered(run_page, place, corpus, tmp_path, monkeypatch):
    offered = tmp_path / "offered"
    offered.mkdir()
    (offered / "link.jsonl").symlink_to(corpus)
    monkeypatch.setenv("PEER_CL_DASHBOARD_CORPORA", json.dumps([str(offered)]))
    for path in (corpus, offered / ".." / corpus.name, offered / "link.jsonl", "/etc/passwd"):
        at = press(fill(run_page("ingest", place), path, "medicine"), "Preview")
        assert is_sound(at)
        assert "may not be read" in at.error[0].value
        assert "Start learning" not in labels(at.button)
    inside = write_corpus(offered / "medicine.jsonl", "medicine")
    at = press(fill(run_page("ingest", place), inside, "medicine"), "Preview")
    assert not at.error
    assert "Start learning" in labels(at.button)


def test_who_logs_in_uploads_and_reads_no_path(run_page, folder, job, monkeypatch):
    failed = job("failed")
    monkeypatch.setenv("PEER_CL_DASHBOARD_LOGIN", "1")
    monkeypatch.setenv("PEER_CL_DASHBOARD_ALLOWED", "@clinic.example")
    account = {"is_logged_in": True, "email": "bob@clinic.example"}
    monkeypatch.setattr("streamlit.user", account)
    at = run_page("ingest", folder)
    assert is_sound(at)
    assert at.radio[0].options == ["A file of mine"]
    assert PATH not in labels(at.text_input)
    with pytest.raises(CorpusError, match="nothing on the server is offered; upload it"):
        to_source("/etc/passwd")
    at = press(run_page("ingest", folder, job=failed.id), "Start it again")
    assert "may not be read" in at.error[-1].value
    with Registry.open(folder) as registry:
        assert len(registry.jobs.listed()) == 1


def test_settings_that_cannot_be_trained_with_are_told(run_page, place, corpus):
    at = fill(run_page("ingest", place), corpus, "medicine")
    passes = next(item for item in at.number_input if item.label == "text passes")
    at = press(passes.set_value(0.0).run(), "Preview")
    assert is_sound(at)
    assert r"text\_passes must be positive" in at.error[0].value


def test_lines_that_cannot_be_read_are_shown_and_left_out_only_if_one_says_so(
    run_page, place, corpus
):
    with corpus.open("a", encoding="utf-8") as file:
        file.write("[1]\n")
    at = press(fill(run_page("ingest", place), corpus, "medicine"), "Preview")
    assert is_sound(at)
    assert "medicine.jsonl:41 is no JSON object" in at.code[0].value
    start = next(button for button in at.button if button.label == "Start learning")
    assert start.disabled
    at = at.checkbox[0].check().run()
    start = next(button for button in at.button if button.label == "Start learning")
    assert not start.disabled


def test_what_is_known_already_cannot_be_started(run_page, place, made):
    at = run_page("ingest", place, domain="law")
    at = press(fill(at, made.parent / "law.jsonl"), "Preview")
    assert is_sound(at)
    assert "nothing new" in at.info[-1].value
    assert next(button for button in at.button if button.label == "Start learning").disabled


def test_a_preview_is_of_what_the_form_says_now(run_page, place, corpus, tmp_path):
    at = press(fill(run_page("ingest", place), corpus, "medicine"), "Preview")
    assert labels(at.metric) == [
        "New documents",
        "Learned",
        "Held out",
        "Tokens",
        "Pool on disk",
        "Learning takes about",
    ]
    assert at.metric[0].value == "40"
    assert sum(int(metric.value) for metric in at.metric[1:3]) == 40
    assert any("experts in each of" in caption.value for caption in at.caption)
    kinds = {button.label: button.proto.type for button in at.button}
    assert (kinds["Preview"], kinds["Start learning"]) == ("secondary", "primary")
    assert next(item for item in at.checkbox if item.label.startswith("Measure")).value
    at = fill(at, write_corpus(tmp_path / "minerals.jsonl", "minerals"))
    assert "Start learning" not in labels(at.button)


def test_a_tiny_corpus_is_warned_of_and_what_cannot_be_measured_is_not_ticked(
    run_page, place, tmp_path
):
    tiny = write_corpus(tmp_path / "harbour.jsonl", "minerals", 1)
    at = press(fill(run_page("ingest", place), tiny, "harbour"), "Preview")
    assert is_sound(at)
    told = {metric.label: metric.value for metric in at.metric}
    assert (told["New documents"], told["Learned"], told["Held out"]) == ("1", "1", "0")
    little, unmeasured = (warning.value for warning in at.warning)
    assert f"{told['Tokens']} tokens get" in little
    assert "cannot be measured" in unmeasured
    assert not next(item for item in at.checkbox if item.label.startswith("Measure")).value


def test_a_full_store_says_so_before_anything_is_started(run_page, place, corpus):
    toml = place / "store.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("capacity = 4", "capacity = 1"))
    at = press(fill(run_page("ingest", place), corpus, "medicine"), "Preview")
    assert is_sound(at)
    assert "It cannot learn now" in at.warning[-1].value
    assert "capacity is 1" in at.warning[-1].value
    start = next(button for button in at.button if button.label == "Start learning")
    assert start.disabled


def test_similar_domains_are_found_on_request(run_page, place, tmp_path):
    more = write_corpus(tmp_path / "courts.jsonl", "law", seed=5)
    at = press(fill(run_page("ingest", place), more, "courts"), "Look for similar domains")
    assert is_sound(at)
    assert "These domains would be asked" in at.warning[0].value
    assert at.dataframe[0].value["domain"].tolist() == ["law"]


def test_an_ingest_is_started_watched_and_ends(run_page, place, corpus):
    at = press(fill(run_page("ingest", place), corpus, "medicine"), "Preview")
    at = next(item for item in at.checkbox if item.label.startswith("Measure")).uncheck().run()
    at = press(at, "Start learning")
    assert is_sound(at)
    job_id = at.query_params["job"]
    with Registry.open(place) as registry:
        end = time.monotonic() + PATIENCE_SECONDS
        while registry.jobs.find(job_id).is_open and time.monotonic() < end:
            time.sleep(0.1)
        assert registry.jobs.find(job_id).state == "done", registry.jobs.find(job_id)
        assert registry.live().state("medicine").label == "v1"
    at = run_page("ingest", place, job=job_id)
    assert is_sound(at)
    assert "medicine is at v1" in at.success[0].value
    assert at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")
    assert run_page("ingest", place).dataframe[0].value["state"].tolist() == ["done"]


def test_a_second_click_starts_nothing(run_page, place, corpus, monkeypatch):
    monkeypatch.setattr("pipelines.jobs._spawn", lambda registry, job: os.getpid())
    at = press(fill(run_page("ingest", place), corpus, "medicine"), "Preview")
    at = press(at, "Start learning")
    assert is_sound(at)
    assert at.session_state[f"{START}_clicks"] == 1
    del at.query_params["job"]
    at = press(fill(at.run(), corpus, "medicine"), "Preview")
    at = press(at, "Start learning")
    assert "does the same already" in at.error[0].value
    with Registry.open(place) as registry:
        assert len(registry.jobs.listed()) == 1


def test_a_click_that_the_page_did_not_see_starts_nothing_later(run_page, place, corpus):
    at = fill(run_page("ingest", place), corpus, "medicine")
    at.session_state[f"{START}_wanted"] = ("medicine", str(corpus), "", ())
    at = at.run()
    at = press(at, "Preview")
    assert "job" not in at.query_params


# --- jobs -----------------------------------------------------------------------------------------


def test_a_running_job_is_shown_whoever_opens_the_page(run_page, folder, job):
    running = job(  # so long ago that the seconds until the page is drawn change no figure
        what="training",
        done=5000,
        total=10_000,
        since=time.time() - 1000,
        losses=((1, 3.5), (50, 2.5)),
    )
    for query in ({}, {"job": running.id}):
        at = run_page("ingest", folder, **query)
        assert is_sound(at)
        assert "Learning law" in [item.value for item in at.subheader]
        values = {item.label: item.value for item in at.metric}
        assert values["Weighted loss"] == "2.500"
        assert values["Speed"] == "5.0 steps/s"
        assert values["Left of this part"] == "17 min"
        assert "Cancel" in labels(at.button)
    assert r"\*the\*" in at.caption[1].value, "a person's words are no Markdown"


def test_cancel_asks_the_job_to_stop(run_page, folder, job):
    running = job(what="training", done=5, total=10)
    at = press(run_page("ingest", folder, job=running.id), "Cancel")
    assert is_sound(at)
    with Registry.open(folder) as registry:
        assert registry.jobs.find(running.id).is_cancel_asked
    assert "asked to stop" in at.info[0].value
    assert next(button for button in at.button if button.label == "Cancel").disabled


def test_a_waiting_job_says_what_it_waits_for(run_page, folder, job):
    at = run_page("ingest", folder, job=job("waiting", what="waiting", done=0, total=0).id)
    assert is_sound(at)
    assert "Waiting for its turn" in at.info[0].value


def test_a_failed_job_says_why_and_can_be_started_again(run_page, folder, job):
    failed = job("failed")
    at = run_page("ingest", folder, job=failed.id)
    assert is_sound(at)
    assert r"law\.jsonl\:3 is no JSON \<b\>\*bad\*" in at.error[0].value
    at = press(at, "Start it again")
    again = at.query_params["job"]
    assert again != failed.id
    with Registry.open(folder) as registry:
        end = time.monotonic() + PATIENCE_SECONDS
        while registry.jobs.find(again).is_open and time.monotonic() < end:
            time.sleep(0.1)
        assert registry.jobs.find(again).state == "failed", "there is no /data/law.jsonl"


def test_a_lost_job_says_that_nothing_was_changed(run_page, folder, job):
    child = os.fork()
    if child == 0:
        signal.pause()
    lost = job("lost", pid=child, what="training", done=5, total=10)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    at = run_page("ingest", folder, job=lost.id)
    assert is_sound(at)
    assert "Its process is gone" in at.warning[0].value
    assert "Start it again" in labels(at.button)
    assert "Cancel" not in labels(at.button)


@pytest.mark.parametrize("state", ["lost", "failed", "cancelled"])
def test_what_was_learned_and_not_measured_is_told_and_only_measured(
    run_page, folder, job, state, monkeypatch
):
    child = subprocess.Popen(["sleep", "60"])
    learned = job("running", pid=child.pid, what="scoring documents", done=5, total=10)
    with Registry.open(folder) as registry:
        with registry.jobs.doing(learned.id), registry.writing("ann"):
            live = registry.disable("medicine", "ann").id
        if state != "lost":
            registry.jobs.end(learned.id, state, error="the disk is full")
    child.kill()
    child.wait()
    at = run_page("ingest", folder, job=learned.id)
    assert is_sound(at)
    (told,) = {"lost": at.warning, "failed": at.error, "cancelled": at.info}[state]
    assert f"law has learned it, in snapshot {live}; it was not measured" in told.value
    assert "as it was before" not in told.value
    monkeypatch.setattr("pipelines.jobs._spawn", lambda registry, job: os.getpid())
    at = press(at, "Measure it now")
    with Registry.open(folder) as registry:
        again = registry.jobs.find(at.query_params["job"])
    assert (again.kind, again.request) == ("evaluate", {"background": True})


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_a_job_that_ended_says_how(run_page, folder, job, state):
    at = run_page("ingest", folder, job=job(state).id)
    assert is_sound(at)
    (told,) = at.success if state == "done" else at.info
    assert f"law is {state}" in told.value
    assert ("Start it again" in labels(at.button)) is (state == "cancelled")


def test_a_link_to_a_job_that_there_is_not(run_page, folder):
    at = run_page("ingest", folder, job="abcdef")
    assert is_sound(at)
    assert "no job 'abcdef'" in at.error[0].value
    at = press(at, "All jobs")
    assert "job" not in at.query_params
    assert not at.error


def test_jobs_are_listed(run_page, folder, job):
    failed = job("failed")
    done = job("done", domain="medicine")
    frame = run_page("ingest", folder).dataframe[0].value
    assert frame["state"].tolist() == ["done", "failed"]
    assert frame["domain"].tolist() == ["medicine", "law"]
    assert frame["job"].tolist() == [f"ingest?job={one.id}" for one in (done, failed)]


# --- pure parts -----------------------------------------------------------------------------------


class Sent(BytesIO):
    """What the browser sends, as the page gets it."""

    def __init__(self, name, data, size=None):
        super().__init__(data)
        self.name, self.size = name, size or len(data)


def test_an_upload_is_looked_at_before_it_is_kept():
    assert to_source("/data/x") == "/data/x"
    assert to_source(Sent("notes.txt", b"A contract.")) == Upload("notes.txt", b"A contract.")
    with pytest.raises(CorpusError, match="is binary"):
        to_source(Sent("notes.txt", b"PK\0\0"))
    too_large = Sent("notes.txt", b"x", size=(MAX_UPLOAD_MB + 1) << 20)
    with pytest.raises(CorpusError, match="put the file on the server's disk"):
        to_source(too_large)


def test_the_loss_chart_names_its_units_and_can_be_read_out(folder, job):
    losses = losses_frame(job(what="training", done=2, total=4, losses=((1, 3.5), (2, 2.5))))
    assert losses.to_dict("list") == {"step": [1, 2], "nats": [3.5, 2.5]}
    drawn = json.dumps(loss_chart(losses, "#4477aa").to_dict())
    assert "weighted loss" in drawn
    assert "#4477aa" in drawn
    assert told_loss(losses) == "Weighted loss from 3.500 at step 1 to 2.500 at step 2."
    assert told_loss(losses.head(0)) == "No loss yet."


def test_how_far_and_how_fast_in_words(folder, job):
    slow = job(what="training", done=3, total=1000, since=time.time() - 100, done_at_first=1)
    assert said(slow) == "training: 3 of 1,000 steps"
    assert speed(slow) == "1.2 steps/min"
    assert share_done(slow) == 0.003
    unknown = job(what="loading", done=0, total=0)
    assert (said(unknown), speed(unknown), share_done(unknown)) == ("loading", "–", 0.0)
    assert duration(59.4) == "59 s"
