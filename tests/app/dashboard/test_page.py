"""The frame that all pages share: the store, who looks, and what goes wrong."""

import pytest
from streamlit.testing.v1 import AppTest

from app.dashboard.page import acting, page, plain, view, who
from peer_cl.errors import ChangedError, StoreLockedError
from pipelines import open_store

PAGES = ("overview", "retention", "domains", "experts", "trace", "ingest", "history", "document")


@pytest.fixture
def seen(folder, monkeypatch):
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    monkeypatch.setattr("sys.argv", ["streamlit"])
    return view()


@pytest.mark.parametrize("name", PAGES)
def test_without_a_store_every_page_says_so_in_one_line(run_page, tmp_path, name):
    at = run_page(name, tmp_path / "nowhere")
    assert not at.exception
    assert len(at.error) == 1
    assert "nowhere" in at.error[0].value
    assert "Traceback" not in at.error[0].value


@pytest.mark.parametrize("name", PAGES)
def test_on_an_unreadable_registry_every_page_says_so_in_one_line(run_page, folder, name):
    (folder / "registry.sqlite").write_bytes(b"this was a database" * 100)
    for log in folder.glob("registry.sqlite-*"):
        log.unlink()
    at = run_page(name, folder)
    assert not at.exception
    assert len(at.error) == 1
    assert "Traceback" not in at.error[0].value


@pytest.mark.parametrize("name", PAGES)
def test_after_a_purge_every_page_is_as_before(run_page, folder, name):
    """A purge is an event without a snapshot: their numbers part for good."""
    with open_store(folder) as store:
        store.roll_back("medicine", out=True)
        store.purge("medicine")
        assert store.registry.history(1)[0].id > store.registry.live().id
    at = run_page(name, folder)
    assert not at.exception
    assert not at.error


@pytest.mark.parametrize("name", PAGES)
def test_who_must_log_in_sees_nothing_before(run_page, folder, name, monkeypatch):
    monkeypatch.setenv("PEER_CL_DASHBOARD_LOGIN", "1")
    at = run_page(name, folder)
    assert [button.label for button in at.button] == ["Log in"]
    assert not at.dataframe
    assert not at.metric
    assert not at.table


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "account",
    [
        {"email": "eve@elsewhere.example"},
        {"email": "ann@example.org", "email_verified": False},
        {"name": "ann@example.org"},
    ],
    ids=["a stranger", "an address that was only claimed", "no address"],
)
def test_who_logged_in_and_may_not_enter_sees_nothing(run_page, folder, name, account, monkeypatch):
    monkeypatch.setenv("PEER_CL_DASHBOARD_LOGIN", "1")
    monkeypatch.setenv("PEER_CL_DASHBOARD_ALLOWED", "ann@example.org @clinic.example")
    monkeypatch.setattr("streamlit.user", {"is_logged_in": True, **account})
    at = run_page(name, folder)
    assert [button.label for button in at.button] == ["Log out"]
    assert "may not enter" in at.error[0].value
    assert not at.dataframe
    assert not at.metric


def test_who_may_enter_does_and_acts_under_the_address(run_page, folder, monkeypatch):
    monkeypatch.setenv("PEER_CL_DASHBOARD_LOGIN", "1")
    monkeypatch.setenv("PEER_CL_DASHBOARD_ALLOWED", "@Clinic.example")
    account = {"is_logged_in": True, "email": "Bob@clinic.example"}
    monkeypatch.setattr("streamlit.user", account)
    at = run_page("overview", folder)
    assert not at.error
    assert len(at.dataframe[0].value) == 2
    assert who() == "Bob@clinic.example"


def test_an_act_on_what_is_seen_goes_through(seen, folder):
    with acting(seen) as store:
        store.freeze("law", "seen")
    with open_store(folder) as store:
        assert store.registry.live().state("law").is_frozen


def test_an_act_on_a_store_that_moved_is_refused_and_changes_nothing(seen, folder):
    with open_store(folder) as other:
        other.disable("medicine")
        before = other.registry.live()
        with (
            pytest.raises(ChangedError, match="the store changed meanwhile: snapshot"),
            acting(seen) as store,
        ):
            store.freeze("law")
        assert other.registry.live() == before


def test_a_second_act_in_one_go_is_not_mistaken_for_anothers(seen, folder):
    with acting(seen) as store:
        store.freeze("law")
        store.disable("law")
    with open_store(folder) as store:
        assert store.registry.live().state("law").is_frozen
        assert not store.registry.live().state("law").is_enabled


@pytest.mark.parametrize("again", ["freeze", "unfreeze"])
def test_a_second_click_does_not_hide_what_the_first_did(folder, monkeypatch, again):
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    monkeypatch.setattr("sys.argv", ["streamlit"])
    at = AppTest.from_string(
        "from app.dashboard import acts\n"
        "from app.dashboard.outcome import attempt, show_outcome\n"
        "from app.dashboard.page import view\n"
        "seen = view()\n"
        f"for act in ('freeze', {again!r}):\n"
        "    attempt(seen, 'here', lambda store, act=act: acts.switch(store, act, 'law', ''))\n"
        "show_outcome(view(), 'Domains')\n",
        default_timeout=60,
    ).run()
    assert not at.exception
    assert not at.warning
    assert "law is frozen" in at.success[0].value
    with open_store(folder) as store:
        assert store.registry.history(1)[0].action == "freeze"


def test_an_act_beside_a_writer_is_refused(seen, folder):
    with (
        open_store(folder) as other,
        other.registry.writing("ann"),
        pytest.raises(StoreLockedError),
        acting(seen) as store,
    ):
        store.freeze("law")


def test_what_is_nobodys_mistake_is_told_without_a_traceback_and_logged(
    folder, monkeypatch, caplog
):
    told = []
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    monkeypatch.setattr("sys.argv", ["streamlit"])
    monkeypatch.setattr("streamlit.error", lambda text, **_: told.append(text))

    @page("Broken", "It breaks.")
    def show(_seen):
        raise ZeroDivisionError("by zero")

    show()
    assert told == [
        "ZeroDivisionError\\: by zero \\(a fault of peer-cl; the terminal that runs the dashboard "
        "shows where\\)"
    ]
    assert "Traceback" in caplog.text


def test_colours_stay_when_a_domain_comes(seen, folder):
    before = seen.colours
    with open_store(folder) as store:
        assert set(before) == {item.domain for item in store.registry.domains()}
    from filled_store import grow

    grow(folder, "aaa")
    after = view().colours
    assert {name: after[name] for name in before} == before
    assert after["aaa"] not in before.values()


def test_marks_of_markdown_are_taken_away():
    assert plain("![x](http://evil/x.png)") == r"\!\[x\]\(http\://evil/x\.png\)"
    assert plain("<b>:red[hi]</b> `x` $y$") == r"\<b\>\:red\[hi\]\</b\> \`x\` \$y\$"
