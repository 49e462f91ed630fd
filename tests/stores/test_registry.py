"""The acts: each one transaction, one snapshot, one event with its own name."""

import threading
from dataclasses import replace

import pytest
from filled_store import (
    BACKGROUND,
    facts_alone,
    grow,
    new_segment,
    new_store,
    portrait,
    start,
)

from peer_cl.errors import (
    ChangedError,
    DamageError,
    FrozenError,
    InputError,
    StateError,
    StoreFormatError,
    StoreLockedError,
    UnknownError,
)
from stores import Registry, changes
from stores.fsck import check


def labels(snapshot):
    return {state.domain: state.label for state in snapshot.domains}


def chain(registry):
    return registry.queries.chain(registry.queries.live().state("law").version)


def last_action(registry):
    event = registry.queries.events(1)[0]
    assert event.snapshot_id == registry.queries.live().id
    return event.action, event.domain


# Making and opening


def test_a_store_is_made_and_opened_again(tmp_path):
    with new_store(tmp_path / "a" / "b") as made:
        assert made.queries.live().domains == ()
        assert made.objects.read(made.config.background_object) == BACKGROUND
        config = made.config
    with Registry.open(tmp_path / "a" / "b") as opened:
        assert opened.config == config


def test_a_store_is_made_in_an_empty_place_only(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StateError, match="not an empty folder"):
        new_store(tmp_path)
    url = (tmp_path / "objects").as_uri()
    new_store(tmp_path / "one", objects_url=url).close()
    with pytest.raises(StateError, match="objects lie at"):
        new_store(tmp_path / "two", objects_url=url)


def test_what_is_no_store_is_refused(tmp_path, registry):
    with pytest.raises(StoreFormatError, match="no store at"):
        Registry.open(tmp_path / "nowhere")
    new_store(tmp_path / "other").close()
    (tmp_path / "other" / "store.toml").replace(registry.folder / "store.toml")
    with pytest.raises(DamageError, match=r"of store .*, its registry of store"):
        Registry.open(registry.folder)
    (registry.folder / "registry.sqlite").unlink()
    with pytest.raises(DamageError, match="is missing"):
        Registry.open(registry.folder)


# Growing


def test_an_ingest_from_a_moved_parent_changes_nothing(registry):
    before = portrait(registry)[1:]
    with pytest.raises(ChangedError, match="changed meanwhile"):
        registry.check_growth("law", None)
    segment = new_segment(registry, "law", chain(registry)[0].id)
    with pytest.raises(ChangedError, match="changed meanwhile"):
        registry.add_segment(segment, "ann")
    assert portrait(registry)[1:] == before


def test_a_frozen_domain_learns_nothing(registry):
    registry.switch("freeze", "law", "ann")
    with pytest.raises(FrozenError, match="peer-cl unfreeze law"):
        grow(registry, "law")
    registry.switch("unfreeze", "law", "ann")
    assert labels(grow(registry, "law"))["law"] == "v3"


def test_a_full_store_takes_no_further_domain(empty):
    for name in ("a", "b", "c", "d"):
        grow(empty, name)
    with pytest.raises(StateError, match="4 domains are live and its capacity is 4"):
        empty.check_growth("e", None)
    grow(empty, "a")
    empty.remove("b", "ann")
    grow(empty, "e")
    with pytest.raises(StateError, match="the store is full"):
        empty.restore("b", "ann")


def test_a_segment_whose_objects_are_missing_is_refused(empty):
    segment = replace(new_segment(empty, "law"), objects={"key": "0" * 64})
    with pytest.raises(DamageError, match="1 of the segment's objects are not stored"):
        empty.add_segment(segment, "ann")
    assert empty.queries.live().domains == ()


def test_a_segment_of_facts_has_own_experts_alone(empty):
    new = facts_alone(empty)
    grow(empty, "law", **new)
    (segment,) = chain(empty)
    assert segment.objects == new["objects"]
    assert segment.objects_of("facts") == {0: new["objects"]["facts.0"]}
    assert (segment.objects_of("shared"), segment.pending_shards) == ({}, ())
    (law,) = empty.queries.domains()
    assert (law.num_facts, law.num_texts, law.num_experts) == (2, 0, 0)
    grow(empty, "law")
    assert [len(one.objects) for one in chain(empty)] == [1, 3]
    assert check(empty) == ()
    empty.objects.path(new["objects"]["facts.0"]).unlink()
    (finding,) = check(empty)
    assert "facts' own experts of law v1" in finding.what
    empty.remove("law", "ann")
    empty.purge("law", "ann")
    assert list(empty.objects.sizes()) == [empty.config.background_object]


def test_own_experts_that_are_missing_are_refused(empty):
    segment = new_segment(empty, "law", **facts_alone(empty) | {"objects": {"facts.0": "0" * 64}})
    with pytest.raises(DamageError, match="1 of the segment's objects are not stored"):
        empty.add_segment(segment, "ann")


@pytest.mark.parametrize("name", ["", "Law", "../law", "a/b", "-law", "a..b", "l" * 65, "base"])
def test_names_that_no_domain_may_have(empty, name):
    with pytest.raises(InputError, match="cannot be called"):
        empty.check_growth(name, None)


# Switching


@pytest.mark.parametrize(
    ("action", "back", "field"),
    [("freeze", "unfreeze", "is_frozen"), ("disable", "enable", "is_enabled")],
)
def test_a_switch_is_thrown_and_thrown_back(registry, action, back, field):
    before = registry.queries.live()
    changed = registry.switch(action, "law", "bob", "because")
    assert getattr(changed.state("law"), field) is not getattr(before.state("law"), field)
    assert (changed.index_tag == before.index_tag) is (action == "freeze")
    assert last_action(registry) == (action, "law")
    with pytest.raises(StateError, match="law is already"):
        registry.switch(action, "law", "bob")
    assert registry.switch(back, "law", "bob").domains == before.domains


def test_a_disabled_domain_is_not_active(registry):
    assert registry.queries.check_active("law").label == "v2"
    snapshot = registry.queries.live()
    registry.switch("disable", "law", "ann")
    with pytest.raises(StateError, match="peer-cl enable law"):
        registry.queries.check_active("law")
    assert registry.queries.check_active("law", snapshot).label == "v2"
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        registry.queries.check_active("lav")


# Rolling back, removing, restoring


def test_a_domain_is_rolled_back_one_version_or_to_one(registry):
    grow(registry, "law")
    assert labels(registry.roll_back_domain("law", None, "ann"))["law"] == "v2"
    assert last_action(registry) == ("rollback", "law")
    assert labels(registry.roll_back_domain("law", "v1", "ann"))["law"] == "v1"
    with pytest.raises(StateError, match=r"no earlier version of it \(earlier ones: none\)"):
        registry.roll_back_domain("law", None, "ann")
    with pytest.raises(StateError, match="v3 is no earlier version"):
        registry.roll_back_domain("law", "v3", "ann")
    assert labels(grow(registry, "law", message="again"))["law"] == "v4"
    assert last_action(registry) == ("ingest", "law")
    assert registry.queries.events(1)[0].message == "again"


def test_a_removed_domain_is_restored_as_it_was(registry):
    registry.switch("freeze", "law", "ann")
    before = registry.queries.live().domains
    assert labels(registry.remove("law", "ann")) == {"medicine": "v1"}
    assert last_action(registry) == ("remove", "law")
    with pytest.raises(StateError, match="peer-cl restore law"):
        registry.remove("law", "ann")
    assert registry.restore("law", "ann").domains == before
    assert last_action(registry) == ("restore", "law")
    with pytest.raises(StateError, match="law is live already"):
        registry.restore("law", "ann")


def test_the_store_is_rolled_back_to_any_snapshot(registry):
    old = registry.queries.snapshot(3)
    found = registry.roll_back(3, "ann", "as it was")
    assert (found.domains, found.index_tag) == (old.domains, old.index_tag)
    assert last_action(registry) == ("rollback-store", None)
    with pytest.raises(StateError, match="holds what is live already"):
        registry.roll_back(3, "ann")
    with pytest.raises(UnknownError, match="there are 1 to 5"):
        registry.roll_back(99, "ann")
    assert registry.queries.events(1, domain="law")[0].action == "rollback-store"
    assert registry.queries.events(1, domain="medicine")[0].action == "ingest"
    (change,) = changes(registry.queries.snapshot(4), found)
    assert change.words == ("from v2 to v1",)


# Erasure


def erase_second(registry):
    """Replace law's last segment by one without its first document; return that document."""
    first, last = chain(registry)
    gone = registry.queries.documents("law")[3]
    segment = new_segment(registry, "law", first.id)
    registry.replace_segments(
        "law", last.id, first.id, [segment], [gone.document_id], "ann", "asked for"
    )
    return gone.document_id


def test_an_erasure_takes_the_place_of_the_end_of_the_chain(registry):
    gone = erase_second(registry)
    assert last_action(registry) == ("erase", "law")
    first, last = chain(registry)
    assert (first.label, last.label) == ("v1", "v3")
    assert list(registry.queries.erased("law")) == [gone]
    assert registry.queries.erased("medicine") == {}
    assert [place.is_live for place in registry.queries.places(gone)] == [False]


def test_an_erasure_can_only_drop_the_end(registry):
    first, last = chain(registry)
    registry.replace_segments("law", last.id, first.id, [], [], "ann")
    assert registry.queries.live().state("law").label == "v1"
    with pytest.raises(StateError, match="peer-cl remove law"):
        registry.replace_segments("law", first.id, None, [], [], "ann")


def test_an_erased_document_comes_back_only_on_request(registry):
    gone = erase_second(registry)
    with pytest.raises(StateError, match="law v2 would bring back erased documents"):
        registry.roll_back(4, "ann")
    registry.roll_back_domain("law", "v1", "ann")  # never held it
    registry.roll_back(4, "ann", with_erased=True)
    assert registry.queries.erased("law") == {}  # it is live
    registry.switch("freeze", "law", "ann")
    registry.remove("law", "ann")
    with pytest.raises(StateError, match="with_erased=True"):
        registry.restore("law", "ann")
    registry.restore("law", "ann", with_erased=True)
    registry.roll_back(5, "ann")
    assert list(registry.queries.erased("law")) == [gone]


# The lock, authors and messages


def test_a_writer_may_nest_and_another_thread_may_not(registry):
    found = []

    def other():
        try:
            with registry.writing("bob", timeout_seconds=0):
                found.append("in")
        except StoreLockedError as error:
            found.append(str(error))

    with registry.writing("ann"), registry.writing("ann"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another thread" in found[0]
    with registry.writing("bob", timeout_seconds=0):
        pass


HOLDS = """
import sys
from stores import Registry
with Registry.open(sys.argv[1]) as registry, registry.writing("carla"):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_and_its_end_frees_the_lock(registry):
    child = start(HOLDS, registry)
    assert child.stdout.readline() == b"in\n"
    with (
        pytest.raises(StoreLockedError, match=f"by carla, process {child.pid} on"),
        registry.writing("ann", timeout_seconds=0),
    ):
        pass
    assert {finding.kind for finding in check(registry)} == {"lock"}
    child.kill()
    child.communicate()
    registry.switch("freeze", "law", "ann")


def test_an_act_on_another_snapshot_than_expected_is_refused(registry):
    seen = registry.queries.live().id
    with registry.writing("ann", expect_snapshot=seen):
        registry.switch("freeze", "law", "ann")
    with (
        pytest.raises(ChangedError, match="snapshot 5 is live, not 4"),
        registry.writing("ann", expect_snapshot=seen),
    ):
        pass


def test_any_short_message_is_kept_and_others_change_nothing(registry):
    registry.switch("freeze", "law", "änn'; --", "naïve \n'\"; DROP TABLE events; 雪")
    assert registry.queries.events(1)[0].message == "naïve \n'\"; DROP TABLE events; 雪"
    before = portrait(registry)
    for message in ("a\0b", "x" * 2001, "\udcff"):
        with pytest.raises(InputError, match="the message"):
            registry.remove("law", "ann", message)
        with pytest.raises(InputError, match="the author"), registry.writing(message):
            pass
    assert portrait(registry) == before


# Runs


def test_a_run_is_followed_to_its_end(empty):
    run_id = empty.start_run("ingest", "law", "ann", "first")
    empty.update_run(run_id, "training", 3, 10, "note", [(n, 1.0) for n in range(1000)])
    run = empty.queries.run(run_id[:8])
    assert (run.state, run.what, run.done, run.total) == ("running", "training", 3, 10)
    assert not run.is_lost
    assert len(run.losses) <= 400
    snapshot = grow(empty, "law", run_id=run_id)
    empty.end_run(run_id, "done", snapshot_id=snapshot.id)
    (run,) = empty.queries.runs()
    assert (run.state, run.snapshot_id) == ("done", snapshot.id)
    assert empty.queries.chain(snapshot.state("law").version)[0].run_id == run_id
    with pytest.raises(UnknownError, match="no run"):
        empty.queries.run("f" * 32)


STARTS = """
import sys
from stores import Registry
Registry.open(sys.argv[1]).start_run("ingest", "law", "ann")
"""


def test_a_run_whose_process_is_gone_is_lost(empty):
    start(STARTS, empty).communicate()
    (run,) = empty.queries.runs()
    assert run.is_lost
    assert [finding.kind for finding in check(empty)] == ["run"]
    check(empty, repair=True)
    assert empty.queries.run(run.id).state == "failed"
    assert check(empty) == ()


# Crashes

GROWS = """
import sys
sys.path.insert(0, "tests/support")
from filled_store import grow
from stores import Registry
registry = Registry.open(sys.argv[1])
while True:
    grow(registry, "law")
    print("grown", flush=True)
"""


def test_a_killed_writer_leaves_leftovers_alone(registry):
    child = start(GROWS, registry)
    child.stdout.readline()
    child.kill()
    child.communicate()
    assert {finding.severity for finding in check(registry)} <= {"note"}
    check(registry, repair=True)
    assert check(registry) == ()
    grow(registry, "law")
