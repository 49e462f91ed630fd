"""History: events, snapshots, what differs, and the way back."""

import json
import re
from datetime import datetime

import pytest
from filled_store import grow, new_store, portrait
from sqlalchemy import Engine, event

from app.dashboard.charts import history as charts
from app.dashboard.frames import history as frames
from pipelines import open_store
from stores import DomainState, Snapshot


def live(folder):
    with open_store(folder) as store:
        return store.registry.live()


@pytest.fixture
def lived(folder):
    """A store in which law was frozen (5), medicine disabled (6) and law taken out (7)."""
    with open_store(folder, who="bob") as store:
        store.freeze("law", "an audit")
        store.disable("medicine")
        store.roll_back("law", out=True)
    return folder


def test_an_empty_store_is_told_what_to_do_and_shows_its_first_event(run_page, empty_folder):
    at = run_page("history", empty_folder)
    assert not at.exception
    assert "peer-cl ingest DOMAIN PATH" in at.info[0].value
    assert at.dataframe[-1].value["action"].tolist() == ["create"]


def test_a_store_with_one_domain(run_page, tmp_path):
    place = new_store(tmp_path / "one")
    grow(place, "law")
    at = run_page("history", place)
    assert not at.exception
    assert not at.error
    assert at.dataframe[0].value["what changed"].tolist() == ["in at v1"]


def test_a_large_store_is_read_in_few_statements(run_page, large_folder):
    statements = []

    def note(_connection, _cursor, statement, *_rest):
        if not statement.startswith(("PRAGMA", "BEGIN", "ROLLBACK")):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for name, query in (
            ("overview", {}),
            ("history", {}),
            ("domains", {"domain": "domain-31", "part": "Corpus"}),
        ):
            statements.clear()
            at = run_page(name, large_folder, **query)
            assert not at.exception
            assert not at.error
            assert len(statements) < 50, f"{name} asks {len(statements)} times"
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_damaged_object_does_not_keep_the_history_from_being_read(run_page, lived):
    for path in lived.glob("objects/*/*"):
        path.unlink()
    at = run_page("history", lived)
    assert not at.exception
    assert not at.error


def test_events_are_filtered_by_domain(run_page, lived):
    at = run_page("history", lived)
    assert at.dataframe[-1].value["snapshot"].tolist() == [7, 6, 5, 4, 3, 2, 1]
    at = run_page("history", lived, domain="medicine")
    assert set(at.dataframe[-1].value["domain"]) == {"medicine"}
    assert len(at.dataframe[-1].value) == 2


def test_a_link_to_a_difference_shows_it_and_a_wrong_one_says_so(run_page, lived):
    at = run_page("history", lived, a="4", b="6")
    table = at.dataframe[0].value.set_index("domain")
    assert table["what changed"].to_dict() == {"law": "frozen", "medicine": "disabled"}
    assert table["before"].to_dict() == {"law": "v2", "medicine": "v1"}
    assert "an audit" not in str(table)
    wrong = run_page("history", lived, a="99")
    assert not wrong.exception
    assert "no snapshot '99'; there are 1 to 7" in wrong.warning[0].value.replace("\\", "")


def test_lists_say_what_each_snapshot_is_and_the_address_has_its_number(run_page, lived):
    at = run_page("history", lived, a="4")
    box = at.selectbox(key="a")
    assert box.value == "4"
    ends = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "then", option) for option in box.options]
    assert ends == [
        "7: law, take out, then, live",
        "6: medicine, disable, then",
        "5: law, freeze, then",
        "4: law, ingest, then",
        "3: medicine, ingest, then",
        "2: law, ingest, then",
        "1: create, then",
    ]
    at = box.select_index(2).run()
    assert not at.exception
    assert at.query_params["a"] == "5"
    assert "b" not in at.query_params
    at.selectbox(key="a").select_index(1).run()
    assert "a" not in at.query_params, "the snapshot before the live one stands there at first"


def why(at):
    return next(box for box in at.text_input if box.label.startswith("Why"))


def test_a_restore_is_previewed_done_and_undone(run_page, lived):
    before = live(lived)
    at = run_page("history", lived, restore="4")
    preview = at.dataframe[1].value.set_index("domain")
    assert preview["what changed"].to_dict() == {"law": "in at v2", "medicine": "enabled"}
    assert live(lived) == before
    why(at).input("a mistake").run()
    next(b for b in at.button if b.label == "Restore snapshot 4").click().run()
    assert not at.exception
    assert "as it was at snapshot 4" in at.success[0].value
    with open_store(lived) as store:
        assert store.registry.live().domains == store.registry.snapshot(4).domains
        assert store.registry.history(1)[0].why == "a mistake"
    at.button(key="undo").click().run()
    assert live(lived).domains == before.domains


def test_a_reason_to_restore_one_snapshot_does_not_stand_below_another(run_page, lived):
    at = run_page("history", lived, restore="4")
    why(at).input("a mistake").run()
    box = at.selectbox(key="restore")
    at = box.select_index(next(i for i, told in enumerate(box.options) if told[:2] == "3:")).run()
    assert why(at).value == ""


def test_a_restore_of_what_is_live_is_not_offered(run_page, folder):
    with open_store(folder) as store:
        store.freeze("law")
        store.unfreeze("law")
    at = run_page("history", folder, restore="4")
    assert "would change nothing" in " ".join(info.value for info in at.info)
    assert not [button for button in at.button if button.label.startswith("Restore")]


def test_a_restore_that_was_decided_on_an_older_state_is_refused(run_page, lived):
    at = run_page("history", lived, restore="4")
    with open_store(lived) as store:
        store.enable("medicine")
    before = portrait(lived)
    next(b for b in at.button if b.label == "Restore snapshot 4").click().run()
    assert "Changed meanwhile" in at.warning[0].value
    assert portrait(lived) == before


def test_the_caption_promises_no_way_back_from_a_purge(run_page, lived):
    at = run_page("history", lived)
    assert "all but a purge can be taken back" in at.caption[0].value


def test_a_restore_that_failed_is_told_at_its_button_and_on_no_other_page(run_page, lived):
    at = run_page("history", lived, restore="4")
    with open_store(lived) as other, other.registry.writing("ann"):
        next(b for b in at.button if b.label == "Restore snapshot 4").click().run()
    assert "ann" in at.error[0].value
    domains = run_page("domains", lived)
    domains.session_state["outcome"] = at.session_state["outcome"]
    domains.run()
    assert not domains.error


def test_what_was_purged_stays_out(run_page, lived):
    with open_store(lived) as store:
        store.purge("law")
    at = run_page("history", lived, restore="4")
    assert "gone for ever: law v2" in at.warning[0].value.replace("\\", "")
    assert "It stays out" in at.warning[0].value
    assert at.dataframe[1].value["domain"].tolist() == ["medicine"]
    next(b for b in at.button if b.label == "Restore snapshot 4").click().run()
    assert "holds versions that were purged" in at.error[0].value.replace("\\", "")
    at.checkbox[0].check().run()
    next(b for b in at.button if b.label == "Restore snapshot 4").click().run()
    assert not at.error
    assert [state.domain for state in live(lived).domains] == ["medicine"]
    assert live(lived).state("medicine").is_enabled


def test_what_was_erased_comes_back_only_when_it_is_wanted(run_page, folder):
    with open_store(folder, who="ann") as store, store.registry.writing("ann") as registry:
        version = registry.live().state("law").version
        first, last = registry.chain(version)
        own = [d for d in registry.documents("law") if d.segment_id == last.id]
        gone = [document.document_id for document in own]
        registry.regrow("law", last.id, first.id, [], "ann", erased=gone)
    before = live(folder)
    at = run_page("history", folder, restore=str(before.id - 1))
    told = "Erased exactly since, and back with this snapshot: 3 documents of law."
    assert [warning.value.replace("\\", "") for warning in at.warning] == [told]
    button = f"Restore snapshot {before.id - 1}"
    next(b for b in at.button if b.label == button).click().run()
    assert "erased exactly since" in at.error[0].value
    assert live(folder) == before
    at.checkbox[0].check().run()
    next(b for b in at.button if b.label == button).click().run()
    assert not at.error
    assert live(folder).state("law").version == version
    at.button(key="undo").click().run()
    assert live(folder).domains == before.domains
    with open_store(folder) as store:
        assert store.registry.erased.count("law") == 3


# --- frames and charts ---------------------------------------------------------------------------


def test_spans_tell_every_stretch_of_a_state(lived):
    with open_store(lived) as store:
        spans = frames.spans(store.registry.snapshots())
    rows = spans[["domain", "version", "state", "first", "end"]].to_numpy().tolist()
    assert rows == [
        ["law", "v1", "live", 2, 4],
        ["law", "v2", "live", 4, 5],
        ["law", "v2", "frozen", 5, 7],
        ["medicine", "v1", "live", 3, 6],
        ["medicine", "v1", "disabled", 6, 8],
    ]
    assert spans["until"].tolist()[-1] == "", "it is so until now"
    assert frames.spans(()).empty


def test_spans_say_what_every_snapshot_says(large_folder):
    """Whatever span a snapshot falls into has the state that the snapshot holds."""
    with open_store(large_folder) as store:
        snapshots = store.registry.snapshots()
    spans = frames.spans(snapshots)
    for snapshot in snapshots[::17]:
        inside = spans[(spans["first"] <= snapshot.id) & (spans["end"] > snapshot.id)]
        assert inside["domain"].tolist() == [state.domain for state in snapshot.domains]
        assert inside["is_frozen"].tolist() == [state.is_frozen for state in snapshot.domains]
        assert inside["is_enabled"].tolist() == [state.is_enabled for state in snapshot.domains]


def test_short_stretches_are_still_seen_in_a_long_history():
    states = [
        DomainState("law", "a" * 32, "v1", is_frozen=bool(n % 2), is_enabled=True) for n in (0, 1)
    ]
    snapshots = [Snapshot(n, n - 1, "", "freeze", (states[n % 2],)) for n in range(1, 500)]
    spec = charts.lanes(frames.spans(snapshots), {"law": "#4477aa"}, snapshots).to_dict()
    _, rows = spec["datasets"].values()
    assert len(rows) == 499
    assert all(row["first"] < row["bar_end"] < row["end"] for row in rows)


def test_snapshots_say_who_made_them_and_which_is_live(lived):
    with open_store(lived) as store:
        store.purge("law", "asked for")
        registry = store.registry
        table = frames.snapshots(
            registry.snapshots(), registry.history(), 7, registry.purged_versions(), {}
        ).set_index("snapshot")
    assert table.loc[7, "state"] == "live"
    assert table.loc[5, "state"] == "1 purged"
    assert table.loc[5, ["action", "domain", "who", "why"]].tolist() == [
        "freeze",
        "law",
        "bob",
        "an audit",
    ]
    assert table.loc[7, "action"] == "take out", "a purge makes no snapshot"


def test_an_act_is_called_as_its_button_is_and_has_the_version_it_was_about(run_page, folder):
    with open_store(folder) as store:
        first = store.registry.domain("law").chain[0].id
        store.roll_back("law", first)  # 5
        store.roll_back("law", out=True)  # 6
        store.bring_back("law")  # 7
        store.restore(4)  # 8
        store.roll_back("medicine", out=True)  # 9
        store.freeze("law")  # 10
    at = run_page("history", folder)
    table = at.dataframe[-1].value.set_index("snapshot")
    assert table.loc[[10, 9, 8, 7, 6, 5], ["action", "version"]].to_numpy().tolist() == [
        ["freeze", "v2"],
        ["take out", "v1"],
        ["restore snapshot 4", ""],
        ["bring back", "v1"],
        ["take out", "v1"],
        ["roll back to v1", "v1"],
    ]
    made = next(t.value for t in at.dataframe if "domains" in t.value).set_index("snapshot")
    assert made["action"].to_dict() == table["action"].to_dict()
    domain = run_page("domains", folder, domain="medicine", part="Events")
    assert [metric.value for metric in domain.metric][:2] == ["out", "was v1"]
    assert domain.dataframe[-1].value["action"].tolist()[0] == "take out"


def test_a_restore_without_what_was_purged_is_like_no_snapshot(lived):
    with open_store(lived) as store:
        store.purge("law")
        registry = store.registry
        with registry.writing("ann"):
            registry.roll_back(4, "ann", without_purged=True)
        table = frames.events(registry.history(1), registry.snapshots(), {})
    assert table["action"].tolist() == ["restore a snapshot without the purged"]


def test_versions_of_a_domain_that_is_out_are_out(run_page, folder):
    with open_store(folder) as store:
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law")
    assert at.dataframe[-1].value["state"].tolist() == ["out", "out"]


def test_the_lanes_have_a_unit_and_the_domains_colours(lived):
    with open_store(lived) as store:
        found = store.registry.snapshots()
    colours = {"law": "#111111", "medicine": "#222222"}
    spec = charts.lanes(frames.spans(found), colours, found).to_dict()
    text = json.dumps(spec)
    assert "snapshot (number)" in text
    assert "#111111" in text
    x = spec["layer"][1]["encoding"]["x"]
    assert x["scale"]["domain"] == [1, 8], "the store's, not those of its domains alone"
    day = f"{datetime.fromisoformat(found[0].created_at):%d %b %Y}"
    told = x["axis"]["labelExpr"]
    assert f'"1": ["1", "{day}"], "2": ["2"]' in told, "a day is said once"
