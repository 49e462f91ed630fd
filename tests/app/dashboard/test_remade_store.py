"""A store that was deleted and made anew in its folder is another one, whatever its numbers say."""

import shutil

import pytest
from filled_store import grow, new_store, portrait
from pages import everything, fill, press
from tiny_base import background, make_tiny_store, write_corpus

from app.dashboard import cached
from app.dashboard.page import acting, view
from peer_cl.errors import ChangedError
from pipelines import init_store, open_store


def remade(folder, domains=("law", "tax", "law")):
    """Delete a store and make another there, which has as many snapshots as the first."""
    shutil.rmtree(folder)
    new_store(folder)
    for domain in domains:
        grow(folder, domain)


@pytest.fixture
def look(folder, monkeypatch):
    """Look at the store as a page does."""
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    monkeypatch.setattr("sys.argv", ["streamlit"])
    return view


@pytest.mark.parametrize("name", ["overview", "domains", "experts", "ingest", "history"])
def test_pages_show_the_store_that_is_there_now(run_page, folder, name):
    at = run_page(name, folder)
    assert "medicine" in everything(at)
    remade(folder)
    at.run()
    assert not at.exception
    assert not at.error
    assert "tax" in everything(at)
    assert "medicine" not in everything(at)


def test_nothing_is_answered_from_a_cache_of_the_old_store(look, folder):
    old = look()
    version = old.live.state("law").version
    assert cached.domain_detail(old, "law").chain[-1].id == version
    assert {event.domain for event in cached.events(old)} == {None, "law", "medicine"}
    remade(folder)
    new = look()
    assert new.live.id == old.live.id
    assert new.key != old.key
    assert cached.domain_detail(new, "law").chain[-1].id != version
    assert {event.domain for event in cached.events(new)} == {None, "law", "tax"}


def test_an_act_drawn_on_the_old_store_is_refused(look, folder):
    old = look()
    remade(folder)
    before = portrait(folder)
    with pytest.raises(ChangedError, match="another store was made in"), acting(old) as store:
        store.freeze("law")
    assert portrait(folder) == before


@pytest.mark.parametrize("domains", [("law", "tax", "law"), ("tax", "tax", "tax")])
def test_a_click_on_an_act_of_the_old_store_says_so_and_does_nothing(run_page, folder, domains):
    """Also where the page has no place for it: the domain that it was about is gone."""
    at = run_page("domains", folder, domain="law", part="Act")
    assert "Freeze" in at.button(key="act").label
    remade(folder, domains)
    before = portrait(folder)
    at.button(key="act").click().run()
    assert not at.exception
    (told,) = [box.value for box in at.warning if "Changed meanwhile" in box.value]
    assert "another store was made" in told.replace("\\", "")
    assert portrait(folder) == before
    at.button(key="reload").click().run()
    assert not [box for box in at.warning if "Changed meanwhile" in box.value]


def test_what_was_done_to_the_old_store_is_not_undone_in_the_new_one(run_page, folder):
    at = run_page("domains", folder, domain="law", part="Act")
    at.button(key="act").click().run()
    assert at.success
    remade(folder, ("law", "tax", "law", "law"))
    before = portrait(folder)
    at.button(key="undo").click().run()
    assert not at.exception
    assert not at.success
    assert portrait(folder) == before


def test_a_preview_of_the_old_store_starts_no_ingest_in_the_new_one(run_page, tmp_path):
    place = make_tiny_store(tmp_path, domains=())
    corpus = write_corpus(tmp_path / "law.jsonl", "law")
    at = press(fill(run_page("ingest", place), corpus, "law"), "Preview")
    start = next(button for button in at.button if button.label == "Start learning")
    shutil.rmtree(place)
    init_store(place, base=str(tmp_path / "base"), background=background()).close()
    start.click().run()
    assert not at.exception
    assert "Start learning" not in [button.label for button in at.button]
    with open_store(place) as store:
        assert store.registry.jobs.listed() == ()


def test_a_copy_of_the_store_that_was_put_back_is_shown(look, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    with open_store(folder) as store:
        store.disable("medicine")
    assert not look().live.state("medicine").is_enabled
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    assert look().live.state("medicine").is_enabled


def test_of_a_backup_that_was_put_back_nothing_is_answered_or_undone_from_before(
    run_page, look, folder, tmp_path
):
    """Its next acts have the numbers of those that were lost with the newer store."""
    shutil.copytree(folder, tmp_path / "copy")
    at = run_page("domains", folder, domain="law", part="Act")
    at.button(key="act").click().run()
    assert at.success
    lost = look()
    assert lost.live.state("law").is_frozen
    assert cached.last_state(lost, "law").is_frozen
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    with open_store(folder, who="bob") as store:
        store.disable("medicine")
    now = look()
    assert now.live.id == lost.live.id
    assert not cached.last_state(now, "law").is_frozen
    assert "bob" in {event.who for event in cached.events(now)}
    before = portrait(folder)
    at.button(key="undo").click().run()
    assert not at.exception
    assert not at.success
    assert portrait(folder) == before
    with pytest.raises(ChangedError, match="or a copy put back"), acting(lost) as store:
        store.freeze("law")
    assert portrait(folder) == before


def test_the_old_store_is_closed(look, folder):
    old = look().store
    closed = []
    old.close = lambda: closed.append(old)
    remade(folder)
    look()
    assert closed == [old]
