import dataclasses
import os

import pytest
from filled_store import grow, portrait

from stores import Registry


def live(folder):
    with Registry.open(folder) as registry:
        return {state.domain: state for state in registry.live().domains}


def test_freeze_and_disable_and_back(peer_cl, folder):
    for act, field, value in (
        ("freeze", "is_frozen", True),
        ("disable", "is_enabled", False),
        ("unfreeze", "is_frozen", False),
        ("enable", "is_enabled", True),
    ):
        result = peer_cl(act, "law", folder=folder)
        assert result.code == 0
        assert "snapshot" in result.out
        assert getattr(live(folder)["law"], field) is value
        again = peer_cl(act, "law", folder=folder)
        assert again.code == 2
        assert again.err.startswith("error: law is ")


def test_rollback_of_a_domain_goes_one_version_back_and_never_out_unasked(peer_cl, folder):
    first = peer_cl("rollback", "law", folder=folder)
    assert "law: from v2 to v1" in first.out
    assert live(folder)["law"].label == "v1"
    before = portrait(folder)
    second = peer_cl("rollback", "law", folder=folder)
    assert second.code == 2
    assert "law is at v1, its first version" in second.err
    assert "`peer-cl rollback law --out`" in second.err
    assert portrait(folder) == before
    assert "law: out (it was at v1)" in peer_cl("rollback", "law", "--out", folder=folder).out
    assert set(live(folder)) == {"medicine"}
    third = peer_cl("rollback", "law", folder=folder)
    assert third.code == 2
    assert "error: domain 'law' is not live" in third.err


@pytest.mark.parametrize("written", ["label", "id", "prefix"])
def test_rollback_to_a_version_by_label_id_or_prefix(peer_cl, folder, written):
    grow(folder, "law")
    with Registry.open(folder) as registry:
        first = registry.domain("law").versions[0].id
    to = {"label": "v1", "id": first, "prefix": first[:8]}[written]
    assert "law: from v3 to v1" in peer_cl("rollback", "law", "--to", to, folder=folder).out


def test_rollback_out_takes_all_segments(peer_cl, folder):
    assert "law: out (it was at v2)" in peer_cl("rollback", "law", "--out", folder=folder).out


def test_a_domain_that_was_taken_out_comes_back_and_others_stay(peer_cl, folder):
    before = live(folder)
    peer_cl("rollback", "law", "--out", folder=folder)
    peer_cl("disable", "medicine", folder=folder)
    back = peer_cl("bring-back", "law", "--why", "needed again", folder=folder)
    assert "law: in at v2" in back.out
    assert "undo with `peer-cl rollback --to" in back.out
    after = live(folder)
    assert after["law"] == before["law"]
    assert not after["medicine"].is_enabled


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["freeze", "law"], "frozen"),
        (["disable", "law"], "disabled"),
        (["rollback", "law"], "from v2 to v1"),
        (["rollback", "law", "--out"], "out (it was at v2)"),
        (["rollback", "--to", "3"], "from v2 to v1"),
    ],
)
def test_an_act_and_its_undoing_tell_a_script_what_changed(peer_cl, folder, words, told):
    before = live(folder)["law"]
    result = peer_cl(*words, "--json", folder=folder).json
    assert (result["snapshot_before"], result["snapshot_after"]) == (4, 5)
    (change,) = result["changes"]
    assert (change["domain"], change["words"]) == ("law", [told])
    assert change["before"] == dataclasses.asdict(before)
    now = live(folder).get("law")
    assert change["after"] == (dataclasses.asdict(now) if now else None)
    undo = {"freeze": ["unfreeze", "law"], "disable": ["enable", "law"]}
    back = undo.get(words[0], ["bring-back", "law"] if now is None else ["rollback", "--to", "4"])
    (change,) = peer_cl(*back, "--json", folder=folder).json["changes"]
    assert change["after"] == dataclasses.asdict(before)


def test_rollback_to_a_snapshot_restores_it_and_can_be_undone(peer_cl, folder):
    before = live(folder)
    peer_cl("freeze", "medicine", folder=folder)
    frozen = live(folder)
    undone = peer_cl("rollback", "--to", "4", folder=folder)
    assert "medicine: no longer frozen" in undone.out
    assert live(folder) == before
    assert "undo with `peer-cl rollback --to 5`" in undone.out
    peer_cl("rollback", "--to", "5", folder=folder)
    assert live(folder) == frozen


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollback"], "say what to take back"),
        (["rollback", "--to", "v1"], "a snapshot is a number"),
        (["rollback", "--to", "9" * 30], "a snapshot is a number"),
        (["rollback", "--to", "999"], "no snapshot 999"),
        (["rollback", "--to", "4"], "the same content"),
        (["rollback", "law", "--to", "v9"], "no version of law 'v9'; known: v1, v2"),
        (["rollback", "law", "--to", "v2"], "at v2 already"),
        (["rollback", "medicine"], "`peer-cl rollback medicine --out`"),
        (["rollback", "law", "--to", ""], "--to is empty"),
        (["rollback", "--to", " "], "--to is empty"),
        (["rollback", "--out"], "--out takes one domain out"),
        (["rollback", "law", "--out", "--to", "v1"], "--out takes one domain out"),
        (["rollback", "lav"], "Did you mean 'law'"),
        (["bring-back", "law"], "law is live already"),
        (["bring-back", "lav"], "Did you mean 'law'"),
        (["freeze", "../../etc/passwd"], "no domain '../../etc/passwd'"),
        (["show", ""], "no domain ''"),
        (["disable", "m" * 10_000], "no domain 'mmm"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(peer_cl, folder, words, told):
    before = portrait(folder)
    result = peer_cl(*words, folder=folder)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert told in result.err
    assert result.err.count("\n") == 1
    assert len(result.err) < 400
    assert portrait(folder) == before


def test_a_user_without_a_name_reads_and_acts(peer_cl, folder, monkeypatch):
    def getuser():
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", getuser)
    assert peer_cl("domains", folder=folder).code == 0
    assert peer_cl("freeze", "law", folder=folder).code == 0
    with Registry.open(folder) as registry:
        assert registry.history(1)[0].who == f"uid {os.getuid()}"


@pytest.mark.parametrize(
    "words",
    [
        ("freeze", "law"),
        ("rollback", "law", "--out"),
        ("ingest", "law", __file__),
        ("evaluate", "--no-background"),
        ("doctor", "--repair"),
    ],
)
def test_an_act_on_a_store_that_can_only_be_read_says_so(peer_cl, folder, monkeypatch, words):
    before = portrait(folder)
    monkeypatch.setattr("os.access", lambda path, mode, **_: mode != os.W_OK)
    assert peer_cl("domains", folder=folder).code == 0
    result = peer_cl(*words, folder=folder)
    assert result.code == 2
    assert result.err.startswith(f"error: this store is read-only here: {folder}")
    monkeypatch.undo()
    assert portrait(folder) == before
