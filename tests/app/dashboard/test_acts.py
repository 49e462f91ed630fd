"""Acts and what they would change, without Streamlit."""

import re

import pytest
from filled_store import grow, portrait

from app.dashboard import acts
from app.dashboard.previews import choices, preview
from peer_cl.errors import ChangedError, InputError, StateError
from pipelines import open_store


@pytest.fixture
def store(folder):
    with open_store(folder, who="bob") as opened:
        yield opened


def offered(store, domain):
    """Return the acts that are offered for a domain."""

    def may_purge(*, retired):
        try:
            store.registry.check_purgeable(domain, retired=retired)
        except StateError:
            return False
        return True

    detail = store.registry.domain(domain)
    found = choices(detail, purgeable=may_purge(retired=False), retired=may_purge(retired=True))
    return [choice.action for choice in found]


@pytest.mark.parametrize(
    ("action", "back", "field"),
    [("freeze", "unfreeze", "is_frozen"), ("disable", "enable", "is_enabled")],
)
def test_a_switch_says_what_it_did_and_is_taken_back(store, action, back, field):
    before = store.registry.live()
    done = acts.switch(store, action, "law", "a reason")
    assert done.said.startswith("law is ")
    assert (done.before, done.after) == (before.id, before.id + 1)
    assert store.registry.history(1)[0].why == "a reason"
    assert store.registry.history(1)[0].who == "bob"
    assert back in offered(store, "law")
    assert action not in offered(store, "law")
    undone = acts.undo(store, done)
    assert store.registry.live().domains == before.domains
    assert acts.undo(store, undone).after == store.registry.live().id
    assert getattr(store.registry.live().state("law"), field) is (action == "freeze")


def test_rolling_back_goes_to_a_version_or_out_and_back(store):
    chain = store.registry.domain("law").chain
    before = store.registry.live()
    done = acts.roll_back(store, "law", chain[0].id, "")
    assert "law went from v2 to v1." in done.said
    acts.undo(store, done)
    out = acts.roll_back(store, "law", None, "")
    assert "law is out of the store." in out.said
    assert store.registry.live().state("law") is None
    acts.undo(store, out)
    assert store.registry.live().domains == before.domains


def test_undo_is_refused_once_somebody_else_acted(store, folder):
    done = acts.switch(store, "freeze", "law", "")
    with open_store(folder) as other:
        other.disable("medicine")
    before = portrait(folder)
    with pytest.raises(ChangedError, match=f"History can restore snapshot {done.before}"):
        acts.undo(store, done)
    assert portrait(folder) == before


def test_a_purge_needs_the_name_and_deletes_what_it_says(store, folder):
    acts.roll_back(store, "law", None, "")
    before = portrait(folder)
    with pytest.raises(InputError, match="type its name: law; nothing was done"):
        acts.purge(store, "law", "medicine", "")
    assert portrait(folder) == before
    done = acts.purge(store, "law", "law", "asked for")
    assert "2 versions and 6 documents are gone" in done.said
    assert not done.can_undo
    assert store.registry.domain("law").summary.is_purged


def test_a_restore_leaves_out_what_was_purged_only_when_told_to(store):
    whole = store.registry.live().id
    acts.roll_back(store, "law", None, "")
    acts.purge(store, "law", "law", "")
    acts.switch(store, "freeze", "medicine", "")
    with pytest.raises(StateError, match="holds versions that were purged"):
        acts.restore(store, whole, "")
    acts.restore(store, whole, "", without_purged=True)
    assert [state.domain for state in store.registry.live().domains] == ["medicine"]
    assert not store.registry.live().state("medicine").is_frozen


def test_what_is_offered_is_what_can_be_done(store):
    assert offered(store, "law") == ["freeze", "disable", "roll back", "take out"]
    assert offered(store, "medicine") == ["freeze", "disable", "take out"]
    acts.roll_back(store, "law", store.registry.domain("law").chain[0].id, "")
    assert offered(store, "law") == ["freeze", "disable", "take out", "purge retired"]
    acts.roll_back(store, "medicine", None, "")
    assert offered(store, "medicine") == ["bring back", "purge"]
    acts.purge(store, "medicine", "medicine", "")
    assert offered(store, "medicine") == []


def test_a_preview_counts_what_would_be_lost(store, folder):
    grow(folder, "law", 5)
    detail = store.registry.domain("law")
    documents = store.registry.documents("law")
    to_v2 = preview("roll back", detail, documents, detail.chain[1].id)
    assert to_v2[0] == (
        "law goes from v3 to v2, without what came since: 4 texts learned, 1 text held out."
    )
    out = preview("take out", detail, documents)
    pattern = r"law \(v3\) leaves the store, and with it \d+ texts learned, .*held out\."
    assert re.fullmatch(pattern, out[0])
    for action in ("freeze", "unfreeze", "disable", "enable"):
        assert preview(action, detail, documents)[-1] == "Nothing is deleted; it can be undone."


def test_a_preview_of_a_purge_names_versions_size_and_that_there_is_no_way_back(store):
    acts.roll_back(store, "law", None, "")
    told = preview("purge", store.registry.domain("law"), ())
    assert "the versions v1, v2 of law are deleted for ever: 74 B" in told[0]
    assert told[-1].endswith("There is no undo.")
    told = preview("purge", store.registry.domain("law"), (), num_erased=2)
    assert "Its list of 2 erased documents goes too: a later ingest learns such again." in told
    told = preview("purge", store.registry.domain("law"), (), unfinished="2 jobs")
    assert told[1] == "Deleted with it: 2 jobs."


def test_a_retired_purge_keeps_what_is_live(store):
    first = store.registry.domain("law").chain[0].id
    acts.roll_back(store, "law", first, "")
    told = preview("purge retired", store.registry.domain("law"), ())
    assert "version v2 of law" in told[0]
    assert "law stays at v1." in told
    acts.purge(store, "law", "law", "", retired=True)
    assert store.registry.purged_versions().isdisjoint({first})
    assert store.registry.live().state("law").label == "v1"
