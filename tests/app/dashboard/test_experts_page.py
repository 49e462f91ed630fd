"""The page Experts, on every kind of store."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from large_store import fill_large_store
from tiny_base import copy_store, make_tiny_store

import app
from app.dashboard.page_experts import clicked
from pipelines import open_store
from stores import Registry

DOMAINS = 50


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return fill_large_store(
        tmp_path_factory.mktemp("large") / "knowledge",
        domains=DOMAINS,
        documents=10 * DOMAINS,
        snapshots=DOMAINS + 2,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real store with two domains on a tiny base."""
    return make_tiny_store(tmp_path_factory.mktemp("made"))


def busiest(folder, domain, layer):
    with Registry.open(folder) as registry:
        version = registry.live().state(domain).version
        uses = [use for use in registry.expert_uses([version]) if use.host_layer == layer]
    return max(uses, key=lambda use: use.weight).row


def with_model(at):
    """Run a page until the model is there."""
    end = time.monotonic() + 60
    while at.status and time.monotonic() < end:
        time.sleep(0.2)
        at = at.run()
    return at


def test_without_a_domain_it_says_where_to_begin(run_page, empty_folder):
    at = run_page("experts", empty_folder)
    assert not at.exception
    assert not at.error
    assert "Ingest" in at.info[0].value


def test_without_recorded_use_it_says_so(run_page, folder):
    at = run_page("experts", folder)
    assert not at.exception
    assert "No use of rows is recorded" in at.info[0].value


def test_fifty_domains_open_without_a_model(run_page, large):
    at = run_page("experts", large)
    assert not at.exception
    assert not at.error
    assert len(at.selectbox(key="domain").options) == DOMAINS
    assert [metric.label for metric in at.metric] == [
        "Rows used",
        "Dead rows",
        "Unevenness",
        "Effective documents",
    ]
    assert len(at.get("vega_lite_chart")) == 3
    assert len(at.dataframe[0].value) == 2  # one version, two host layers


def test_a_link_leads_to_a_row_and_its_documents(run_page, large):
    row = busiest(large, "domain-07", 2)
    at = run_page("experts", large, domain="domain-07", layer="2", row=str(row))
    assert not at.exception
    assert at.selectbox(key="domain").value == "domain-07"
    assert at.number_input(key="row").value == row
    held = at.dataframe[1].value
    assert held["title"].str.startswith("domain-07: document").all()
    assert held["share"].is_monotonic_decreasing


def test_a_purge_of_another_domain_changes_nothing_here(run_page, tmp_path):
    folder = fill_large_store(tmp_path / "three", domains=3, documents=30, snapshots=4)
    before = run_page("experts", folder, domain="domain-01")
    with open_store(folder) as store:
        store.roll_back("domain-02", out=True)
        store.purge("domain-02")
    at = run_page("experts", folder, domain="domain-01")
    assert not at.exception
    assert not at.error
    assert [item.value for item in at.metric] == [item.value for item in before.metric]
    assert at.dataframe[0].value.equals(before.dataframe[0].value)


def test_a_row_that_never_fired_says_so(run_page, large):
    with Registry.open(large) as registry:
        version = registry.live().state("domain-00").version
        fired = {u.row for u in registry.expert_uses([version]) if u.host_layer == 0}
    dead = next(row for row in range(1024) if row not in fired)
    at = run_page("experts", large, domain="domain-00", row=str(dead))
    assert not at.error
    assert "Nothing that was learned uses this row" in at.info[0].value


@pytest.mark.parametrize(
    "said",
    [
        {"row": "99999"},
        {"row": "-1"},
        {"row": "x"},
        {"layer": "7"},
        {"version": "v9"},
        {"domain": "no"},
    ],
)
def test_a_link_that_leads_nowhere_says_so_and_shows_what_there_is(run_page, large, said):
    at = run_page("experts", large, **said)
    assert not at.exception
    assert not at.error
    (wrong,) = said.values()
    assert repr(wrong) in at.warning[0].value.replace("\\", "")
    assert re.search(r"known\\: |there are 0 to", at.warning[0].value)
    assert len(at.get("vega_lite_chart")) == 3


def test_with_the_model_a_row_says_what_it_promotes_and_who_uses_it(run_page, made, tmp_path):
    folder = copy_store(made, tmp_path)
    with open_store(folder) as store:
        layer = store.registry.config.host_layers[0]
    row = busiest(folder, "law", layer)
    at = with_model(run_page("experts", folder, domain="law", layer=str(layer), row=str(row)))
    assert not at.exception
    assert not at.error
    layers, held, promoted, near, tokens = (table.value for table in at.dataframe)
    assert len(layers) == len(at.selectbox(key="layer").options)
    assert held["share"].iloc[0] > 0
    assert len(promoted) == 5
    assert set(near["domain"]) == {"medicine"}
    assert near["open"].str.startswith("experts?domain=medicine&version=v1&layer=").all()
    assert (tokens["weight"] > 0).all()


def test_of_a_disabled_domain_the_registry_still_tells(run_page, made, tmp_path):
    folder = copy_store(made, tmp_path)
    with open_store(folder) as store:
        store.disable("law")
        layer = store.registry.config.host_layers[0]
    at = run_page("experts", folder, domain="law", row=str(busiest(folder, "law", layer)))
    assert not at.error
    assert "disabled" in at.info[0].value
    assert len(at.dataframe) == 2


def test_a_click_on_a_cell_is_its_row():
    assert clicked({"selection": {"picked": [{"row": 412}]}}) == 412
    assert clicked({"selection": {"picked": []}}) is None


def test_damaged_use_is_one_line(run_page, tmp_path):
    folder = fill_large_store(tmp_path / "one", domains=1, documents=10, snapshots=2)
    row = busiest(folder, "domain-00", 0)
    with sqlite3.connect(folder / "registry.sqlite") as database:
        database.execute("UPDATE expert_uses SET documents = x'00'")
    database.close()
    at = run_page("experts", folder, row=str(row))
    assert not at.exception
    assert len(at.error) == 1
    assert "packed array of uses" in at.error[0].value


def test_reading_pages_import_no_torch(large):
    code = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "sys.argv = ['streamlit']\n"
        "for name in ('experts', 'retention'):\n"
        "    at = AppTest.from_string(f'from app.dashboard.page_{name} import show\\nshow()\\n',\n"
        "                             default_timeout=60).run()\n"
        "    assert at.metric and not at.error, name\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(app.__file__).parents[1],
        env={**os.environ, "PEER_CL_STORE": str(large)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_link_to_a_domain_that_is_not_live_says_so(run_page, large_folder):
    at = run_page("experts", large_folder, domain="domain-x*y")
    assert not at.exception
    assert "no live domain" in at.warning[0].value
    assert "x*y" not in at.warning[0].value, "the name is no Markdown"
