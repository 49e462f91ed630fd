"""Reports along the line of snapshots, and all snapshots at once."""

import pytest
from sqlalchemy import event

from peer_cl.errors import UnknownError
from stores.changes import changes


@pytest.fixture
def grown(make, registry):
    """A registry with law, then medicine; each snapshot evaluated but the last."""
    make.grow(registry, "law")
    registry.put_evaluation(registry.live().id, {"of": "law"})
    make.grow(registry, "medicine")
    registry.put_evaluation(registry.live().id, {"of": "both"})
    with registry.writing("ann"):
        registry.freeze("law", "ann")
    return registry


def counted(registry, ask):
    """Return the answer of a question and how many statements it took."""
    told = []

    def note(_connection, _cursor, statement, *_rest):
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            told.append(statement)

    engine = registry._database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        return ask(), len(told)
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_reports_come_oldest_first_with_the_snapshot_they_are_of(grown):
    found, num = counted(grown, lambda: grown.evaluations(grown.live().id))
    assert [item.report for item in found] == [{"of": "law"}, {"of": "both"}]
    assert [len(item.snapshot.domains) for item in found] == [1, 2]
    assert found[0].snapshot == grown.snapshot(2)
    assert num <= 10  # those of live() among them


def test_reports_of_later_snapshots_do_not_belong_to_an_earlier_one(grown):
    assert [item.report for item in grown.evaluations(2)] == [{"of": "law"}]
    assert grown.evaluations(1) == ()


def test_the_time_of_the_newest_report_tells_a_new_one(grown):
    assert grown.evaluated_at(1) is None
    before = grown.evaluated_at(grown.live().id)
    assert before == grown.evaluations(grown.live().id)[-1].created_at
    grown.put_evaluation(grown.live().id, {"of": "frozen"})
    assert grown.evaluated_at(grown.live().id) > before


def test_all_snapshots_are_those_that_can_be_read_one_by_one(grown):
    found, num = counted(grown, grown.snapshots)
    assert found == tuple(grown.snapshot(number) for number in range(1, grown.live().id + 1))
    assert num == 3
    with pytest.raises(UnknownError):
        grown.snapshot(len(found) + 1)


def test_versions_are_purged_with_those_that_grew_on_them(make, grown):
    assert grown.purged_versions() == frozenset()
    with grown.writing("ann"):
        grown.unfreeze("law", "ann")
    make.grow(grown, "law")
    versions = [item.id for item in grown.domain("law").versions]
    with grown.writing("ann"):
        grown.roll_back_domain("law", versions[0], "ann")
        grown.purge("law", "ann", retired=True)
    assert grown.purged_versions() == frozenset(versions[1:])
    with grown.writing("ann"):
        grown.roll_back_domain("law", None, "ann")
        grown.purge("law", "ann")
    assert grown.purged_versions() == frozenset(versions)


def test_what_differs_between_two_snapshots_is_told_domain_by_domain(make, grown):
    before = grown.live()
    with grown.writing("ann"):
        grown.unfreeze("law", "ann")
        make_v2 = make.segment(grown, "law", before.state("law").version, salt="more")
        grown.add_segment(make_v2, "ann")
        grown.disable("law", "ann")
        after = grown.roll_back_domain("medicine", None, "ann")
    found = {change.domain: change.words for change in changes(before, after)}
    assert found == {
        "law": ("from v1 to v2", "no longer frozen", "disabled"),
        "medicine": ("out (it was at v1)",),
    }
    back = {change.domain: change.words for change in changes(after, before)}
    assert back == {"law": ("from v2 to v1", "frozen", "enabled"), "medicine": ("in at v1",)}
    assert changes(before, before) == ()
