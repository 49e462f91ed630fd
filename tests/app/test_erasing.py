"""erase and purge on the command line: what they print, and what they refuse."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest
import typer
from filled_store import grow, portrait
from tiny_base import background, copy_store, make_tiny_base, make_tiny_store, sentences

from app import erasing
from peer_cl.errors import InputError
from pipelines import TrainingSettings, init_store, open_store
from pipelines.documents import SourceDocument
from stores import NewJob, Registry

SHAPE = ("--num-experts", "64", "--num-heads", "2", "--top-k", "4", "--passes", "1")
SMALL = (*SHAPE, "--least-steps", "1")
PROGRESS = ("reading", "training", "recording", "measuring", "Loading")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A store that learned law, and in medicine one of law's documents too."""
    place = make_tiny_store(tmp_path_factory.mktemp("erasing"), domains=("law",))
    with open_store(place, who="ann") as store:
        registry = store.registry
        shared = next(iter(registry.documents("law", split="train")))
        both = SourceDocument(registry.document_text(shared), "Shared", "cases.txt")
        own = [SourceDocument(text, "A fever", "clinic.txt") for text in sentences("medicine", 14)]
        settings = TrainingSettings(shape=_shape(), text_passes=1.0, least_steps=1)
        store.ingest("medicine", [both, *own], settings=settings)
    return place


def _shape():
    from peer_cl import PoolShape

    return PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)


@pytest.fixture
def place(good, tmp_path):
    return copy_store(good, tmp_path)


def trained(place, domain="law", skip=1):
    """Return the id of a document that law alone learned."""
    with Registry.open(place) as registry:
        return registry.documents(domain, split="train")[skip].document_id


def is_refused(result, *told):
    shown = [line for line in result.err.splitlines() if not line.startswith(PROGRESS)]
    return (
        result.code == 2
        and len(shown) == 1
        and shown[0].startswith("error: ")
        and len(shown[0]) < 500
        and all(text in shown[0] for text in told)
    )


# --- what they do ---------------------------------------------------------------------------------


def test_masked_tells_what_it_did_and_rollback_takes_it_back(peer_cl, place):
    target = trained(place)
    result = peer_cl("erase", target[:10], "--masked", "--rows", "20", folder=place)
    assert result.code == 0, result.err
    assert "law is at v2" in result.out
    assert "rows are off; `peer-cl rollback law` takes it back" in result.out
    assert "share of the gain removed" in result.out
    assert "20 other documents lose" in result.out
    assert "most of what was gained on 1 of the documents is still there" in result.out
    (held,) = peer_cl("document", target, "--json", folder=place).json["places"]
    assert (held["is_live"], held["is_masked"]) == (True, True)
    assert "masked" in peer_cl("document", target, folder=place).out
    assert "law: from v2 to v1" in peer_cl("rollback", "law", folder=place).out
    (held,) = peer_cl("document", target, "--json", folder=place).json["places"]
    assert (held["is_live"], held["is_masked"]) == (True, False)
    again = peer_cl("erase", target, "--masked", "--rows", "20", "--json", folder=place)
    (report,) = again.json
    assert report["document_ids"] == [target]
    assert report["effect"]["documents"][0]["after_nats"] > 0
    shown = peer_cl("show", "law", folder=place)
    assert shown.code == 0
    assert "mask 1 document" in shown.out


@pytest.mark.parametrize(("broken", "code"), [(KeyboardInterrupt(), 130), (OSError("no disk"), 2)])
def test_a_mask_that_could_not_be_measured_holds_and_is_said_to(
    peer_cl, place, monkeypatch, broken, code
):
    def measure(*_):
        raise broken

    target = trained(place)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.erasure.measure_effect", measure)
        result = peer_cl("erase", target, "--masked", "--rows", "20", folder=place)
    assert result.code == code, result.err
    told = "the mask holds, as law v2, and was not measured; `peer-cl rollback law` takes it back"
    assert told in result.err
    assert "the same command" not in result.err, "again it would take further rows"
    (held,) = peer_cl("document", target, "--json", folder=place).json["places"]
    assert held["is_masked"]
    assert "law: from v2 to v1" in peer_cl("rollback", "law", folder=place).out


def test_exact_then_purge_leaves_no_trace(peer_cl, place):
    target = trained(place)
    result = peer_cl("erase", target, "--exact", "--why", "asked to", folder=place)
    assert result.code == 0, result.err
    assert "1 document is gone from it; 0 segments kept, 1 trained again" in result.out
    assert "peer-cl purge law --retired" in result.out
    assert "erase exactly" in peer_cl("history", "--limit", "1", folder=place).out
    assert peer_cl("document", target, folder=place).code == 0, "it is still in old snapshots"
    refused = peer_cl("erase", target, "--exact", folder=place)
    assert is_refused(refused, "in no live version", "law v1"), refused.err
    before = portrait(place)
    assert is_refused(peer_cl("purge", "law", "--retired", folder=place), "--yes")
    assert portrait(place) == before
    purged = peer_cl("purge", "law", "--retired", "--yes", folder=place)
    assert purged.code == 0, purged.err
    assert "law: 1 segment and 1 document are gone" in purged.out
    assert is_refused(peer_cl("document", target, folder=place), "no document")
    refused = peer_cl("rollback", "--to", "2", folder=place)
    assert is_refused(refused, "holds versions that were purged (law v"), refused.err
    assert "which takes law, live at v" in refused.err
    again = peer_cl("purge", "law", "--retired", "--yes", folder=place)
    assert "all that law has learned is live; 0 objects" in again.out, again.err
    nothing = peer_cl("purge", "medicine", "--retired", "--yes", folder=place)
    assert is_refused(nothing, "is live; there is nothing to delete"), nothing.err
    assert peer_cl("verify", folder=place).code == 0


def test_what_was_erased_is_neither_restored_nor_learned_unasked(peer_cl, place, good):
    target, corpus = trained(place), good.parent / "law.jsonl"
    assert peer_cl("erase", target, "--exact", folder=place).code == 0
    before = portrait(place)
    refused = peer_cl("rollback", "--to", "3", folder=place)
    assert is_refused(refused, f"({target[:12]})", "`peer-cl rollback --to 3 --with-erased`")
    refused = peer_cl("ingest", "law", corpus, *SMALL, folder=place)
    assert is_refused(
        refused, "is left out (1 document), and its live version", "--learn-erased"
    ), refused.err
    assert portrait(place) == before
    learned = peer_cl("ingest", "law", corpus, *SMALL, "--learn-erased", folder=place)
    assert learned.code == 0, learned.err
    assert peer_cl("rollback", "law", folder=place).code == 0
    back = peer_cl("rollback", "--to", "3", "--with-erased", folder=place)
    assert back.code == 0, back.err
    assert "law: from v2 to v1" in back.out


def test_that_a_purge_forgets_what_was_erased_is_told_before_and_after(peer_cl, place):
    assert peer_cl("erase", trained(place), "--exact", folder=place).code == 0
    told = "its list of 1 erased document goes too: a later ingest learns it again"
    retired = peer_cl("purge", "law", "--retired", folder=place)
    assert is_refused(retired, "--yes")
    assert told not in retired.err
    assert peer_cl("rollback", "law", "--out", folder=place).code == 0
    assert is_refused(peer_cl("purge", "law", folder=place), told, "--yes")
    assert told in peer_cl("purge", "law", "--yes", folder=place).out


def test_a_document_of_two_domains_is_erased_from_both_unless_one_is_named(peer_cl, place):
    shared = trained(place, skip=0)
    both = peer_cl("erase", shared, "--masked", "--json", folder=place)
    assert [report["domain"] for report in both.json] == ["law", "medicine"]
    for domain in ("law", "medicine"):
        peer_cl("rollback", domain, folder=place)
    one = peer_cl("erase", shared, "--masked", "--domain", "medicine", "--json", folder=place)
    assert [report["domain"] for report in one.json] == ["medicine"]


def test_by_source_and_by_search_they_are_listed_first(peer_cl, place):
    found = peer_cl("erase", "--search", "FEVER", "--domain", "medicine", "--exact", folder=place)
    with Registry.open(place) as registry:
        about = [d.split for d in registry.documents("medicine") if d.source == "clinic.txt"]
    num = about.count("train")
    told = f"{num} documents will be trained away, and {len(about) - num} held out will go with"
    assert 0 < num < len(about)
    assert is_refused(found, told, "--yes"), found.err
    assert "to be erased" in found.out
    assert "clinic.txt" in found.out
    one = peer_cl("erase", "--source", "cases.txt", "--exact", folder=place)
    assert one.code == 0, one.err
    assert "medicine is at v2" in one.out
    assert "held by law too, which this did not touch" in one.out


def test_before_an_exact_erasure_it_is_said_what_is_trained_again(peer_cl, place):
    with Registry.open(place) as registry:
        held_out = registry.documents("law", split="test")[0].document_id
    for document, is_learned in ((held_out, False), (trained(place), True)):
        told = peer_cl("erase", document, "--exact", "--domain", "law", folder=place)
        assert told.code == 0, told.err
        before, _ = told.out.split("law is at v")
        assert ("nothing was learned from what is erased" in before) is not is_learned
        assert "law is trained again from v" in before


def typed(word, *words):
    """Run a verb on a terminal, type a word; return its exit code and its two outputs."""
    parent, child = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", "import sys; from app.cli import main; sys.exit(main())", *words],
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(child)
    os.write(parent, f"{word}\n".encode())
    out, err = run.communicate(timeout=60)
    os.close(parent)
    return run.returncode, out, err


def test_on_a_terminal_a_purge_wants_the_domains_name(folder, peer_cl):
    assert peer_cl("rollback", "law", "--out", folder=folder).code == 0
    before = portrait(folder)
    code, _, err = typed("medicine", "purge", "law", "--store", str(folder))
    assert (code, "'law' was not typed; nothing was changed" in err) == (2, True), err
    assert portrait(folder) == before
    code, out, err = typed("law", "purge", "law", "--json", "--store", str(folder))
    assert code == 0, err
    assert "Type 'law' to go on" in err
    assert json.loads(out)["num_segments"] == 2, "nothing but JSON on stdout"
    with Registry.open(folder) as registry:
        assert registry.domain("law").summary.is_purged


# --- what they refuse -----------------------------------------------------------------------------


def test_what_cannot_be_erased_is_one_line_and_changes_nothing(peer_cl, place):
    target = trained(place)
    with Registry.open(place) as registry:
        held_out = registry.documents("law", split="test")[0].document_id
        near = registry.documents("medicine")[3].document_id
    before = portrait(place)
    for words, told in (
        ([target], "choose one: --masked"),
        ([target, "--masked", "--exact"], "choose one: --masked"),
        ([target, "--exact", "--rows", "3"], "--rows is for --masked"),
        (["--masked"], "say which documents"),
        ([target, "--search", "a", "--masked"], "say which documents"),
        (["--search", " ", "--masked"], "--search wants a word"),
        (["--search", "unheard-of", "--masked"], "in its title or text"),
        (["--source", "clinic.tx", "--masked"], "Did you mean 'clinic.txt'"),
        ([f"{near[:11]}{'0' if near[11] != '0' else '1'}", "--exact"], f"nearest is {near[:12]}"),
        (["12", "--masked"], "no document '12'"),
        (["../../etc/passwd", "--masked"], "no document"),
        ([target, "--masked", "--domain", "lav"], "Did you mean 'law'"),
        ([target, "--masked", "--domain", "medicine"], "holds no document"),
        ([held_out, "--masked"], "held out of training"),
    ):
        result = peer_cl("erase", *words, folder=place)
        assert is_refused(result, told), (words, result.err)
    assert is_refused(peer_cl("purge", "law", "--yes", folder=place), "law", "is live", "--out")
    assert is_refused(peer_cl("purge", "lav", "--yes", folder=place), "Did you mean 'law'")
    assert portrait(place) == before


@pytest.mark.parametrize(
    ("acts", "told"),
    [
        ([["disable", "law"]], "is disabled"),
        ([["freeze", "law"]], "is frozen"),
        ([["rollback", "law", "--out"]], "in no live version"),
    ],
)
def test_a_domain_that_may_not_be_erased_from(peer_cl, place, acts, told):
    target = trained(place)
    for words in acts:
        assert peer_cl(*words, folder=place).code == 0
    before = portrait(place)
    for how in ("--masked", "--exact"):
        result = peer_cl("erase", target, how, folder=place)
        assert is_refused(result, told, "law"), result.err
        assert portrait(place) == before


def test_a_purged_domain(peer_cl, folder):
    with Registry.open(folder) as registry:
        target = registry.documents("law")[0].document_id
    assert peer_cl("rollback", "law", "--out", folder=folder).code == 0
    told = peer_cl("purge", "law", "--retired", "--yes", folder=folder)
    assert is_refused(told, "all of it is retired"), told.err
    assert peer_cl("purge", "law", "--yes", folder=folder).code == 0
    before = portrait(folder)
    for words, told in (
        (["erase", target, "--masked"], "no document"),
        (["erase", target, "--exact", "--domain", "law"], "'law' was purged"),
    ):
        result = peer_cl(*words, folder=folder)
        assert is_refused(result, told), result.err
    assert portrait(folder) == before
    both = peer_cl("rollback", "law", "--without-purged", folder=folder)
    assert is_refused(both, "is for a whole snapshot"), both.err
    old = ("rollback", "--to", "3", *("--why", "back"))
    refused = peer_cl(*old, folder=folder)
    assert is_refused(refused, "law", "`peer-cl rollback --to 3 --without-purged`"), refused.err
    assert peer_cl("disable", "medicine", folder=folder).code == 0
    restored = peer_cl(*old, "--without-purged", folder=folder)
    assert restored.code == 0, restored.err
    with Registry.open(folder) as registry:
        states = [(state.domain, state.is_enabled) for state in registry.live().domains]
    assert states == [("medicine", True)]
    again = peer_cl("purge", "law", "--yes", folder=folder)
    assert "law holds nothing that was learned; 0 objects" in again.out, again.err


def test_a_store_without_texts(peer_cl, tmp_path):
    base = make_tiny_base(tmp_path / "base")
    place = tmp_path / "k"
    documents = [SourceDocument(text, "t", "s") for text in sentences("law", 16)]
    with init_store(place, base=str(base), background=background(), keep_text=False) as store:
        settings = TrainingSettings(shape=_shape(), text_passes=1.0, least_steps=1)
        store.ingest("law", documents, settings=settings)
    target, before = trained(place), portrait(place)
    for words in ([target], ["--source", "s"]):
        exact = peer_cl("erase", *words, "--exact", folder=place)
        assert is_refused(exact, "keeps no texts (--no-keep-text)", "--masked"), exact.err
        assert exact.out == "", "nothing is promised, and nobody asked, before it is refused"
    assert is_refused(peer_cl("erase", "--search", "court", "--masked", folder=place), "not kept")
    assert portrait(place) == before
    masked = peer_cl("erase", target, "--masked", folder=place)
    assert masked.code == 0, masked.err
    assert "was not measured" in masked.out
    held_out = next(d for d in _documents(place) if d.split == "test").document_id
    told = peer_cl("erase", held_out, "--masked", folder=place)
    assert is_refused(told, "was held out", "`peer-cl rollback law` takes back"), told.err


def _documents(place, domain="law"):
    with Registry.open(place) as registry:
        return registry.documents(domain)


def test_a_search_masks_what_was_learned_of_what_it_finds(peer_cl, place):
    splits = [d.split for d in _documents(place, "medicine") if d.source == "clinic.txt"]
    words = ("erase", "--source", "clinic.txt", "--domain", "medicine", "--masked")
    found = peer_cl(*words, "--rows", "2", folder=place)
    assert found.code == 0, found.err
    num = len(splits) - splits.count("train")
    assert num > 0
    assert f"left out: {num} document" in found.out
    assert "medicine is at v2" in found.out


def test_of_two_domains_what_is_done_before_one_fails_is_told(peer_cl, place):
    shared = trained(place, skip=0)
    with Registry.open(place) as registry:
        doomed = registry.domain("medicine").chain[-1].pool_object
        registry.objects.path(doomed).unlink()
    failed = peer_cl("erase", shared, "--masked", "--json", folder=place)
    assert failed.code == 1
    assert [(one["domain"], one["label"]) for one in failed.json] == [("law", "v2")]


def test_a_segment_that_is_no_longer_live_is_purged_without_a_model(peer_cl, folder):
    grow(folder, "law")
    with Registry.open(folder) as registry:
        doomed = registry.domain("law").versions[2]
        kept = {d.document_id for d in registry.documents("law", "v2")}
    assert peer_cl("rollback", "law", folder=folder).code == 0
    result = peer_cl("purge", "law", "--retired", "--yes", "--json", folder=folder)
    assert result.code == 0, result.err
    assert (result.json["num_segments"], result.json["num_documents"]) == (1, 3)
    with Registry.open(folder) as registry:
        assert {d.document_id for d in registry.documents("law")} == kept
        tombstones = [s.id for s in registry.domain("law").versions if s.is_purged]
        assert tombstones == [doomed.id]
        assert not registry.objects.exists(doomed.pool_object)


def test_where_nobody_can_be_asked_or_somebody_breaks_off_nothing_is_changed(
    folder, peer_cl, monkeypatch
):
    peer_cl("rollback", "law", "--out", folder=folder)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", None)
        with pytest.raises(InputError, match="nobody can be asked here; say so with --yes"):
            erasing.confirm("law", "law goes", yes=False)
        stream = io.StringIO()
        stream.isatty = lambda: True
        patched.setattr("sys.stdin", stream)

        def interrupted(*_, **__):
            raise typer.Abort

        patched.setattr("typer.prompt", interrupted)
        with pytest.raises(typer.Exit) as ended:
            erasing.confirm("law", "law goes", yes=False)
    assert ended.value.exit_code == 130


def test_what_goes_with_a_purge_that_nobody_learned_is_told_first(folder, peer_cl):
    with Registry.open(folder) as registry:
        for _ in range(2):
            request = {"corpus": {"upload": f"upload-{'d' * 64}.txt", "name": "notes.txt"}}
            new = NewJob(kind="ingest", domain="law", request=request, who="ann")
            registry.jobs.end(registry.jobs.add(new).id, "failed", error="no room")
        registry.layout.checkpoint("law", "0f" * 32).write_bytes(b"x")
    assert peer_cl("rollback", "law", folder=folder).code == 0
    told = "with the ingest that did not finish and 2 jobs that did not end well, uploads and all"
    assert is_refused(peer_cl("purge", "law", "--retired", folder=folder), told, "--yes")
    assert peer_cl("purge", "law", "--retired", "--yes", folder=folder).code == 0
    again = peer_cl("purge", "law", "--retired", "--yes", folder=folder)
    assert "all that law has learned is live; 0 objects" in again.out, again.err


def test_what_changes_while_a_person_thinks_is_not_purged(folder, peer_cl, monkeypatch):
    with Registry.open(folder) as registry:
        before = registry.live().id
    assert peer_cl("rollback", "law", folder=folder).code == 0
    asked = []

    def brought_back(word, what, *, yes):
        asked.append((word, what))
        with Registry.open(folder) as other, other.writing("bob"):
            other.roll_back(before, "bob")

    monkeypatch.setattr(erasing, "confirm", brought_back)
    refused = peer_cl("purge", "law", "--retired", folder=folder)
    told = "what no live version of law holds (v2) will be deleted for good"
    assert asked == [("law", told)]
    assert is_refused(refused, "the store changed meanwhile", "look again"), refused.err
    with Registry.open(folder) as registry:
        assert not registry.purged_versions()
