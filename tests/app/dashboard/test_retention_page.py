"""The page Retention, on every kind of store."""

import re
import sqlite3

import numpy as np
import pytest
from large_store import fill_large_store, put_document_scores
from pages import click_cell

from app.dashboard.page import plain
from app.dashboard.page_retention import CURVES, FIGURES, GENERAL, OTHER, VIEWS, clicked
from stores import Registry

DOMAINS = 50


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """50 domains; the live snapshot freezes one, so the last evaluation still holds."""
    folder = fill_large_store(
        tmp_path_factory.mktemp("large") / "knowledge",
        domains=DOMAINS,
        documents=10 * DOMAINS,
        snapshots=DOMAINS + 2,
    )
    put_document_scores(folder, "domain-03")
    return folder


@pytest.fixture
def one(tmp_path):
    return fill_large_store(tmp_path / "one", domains=1, documents=10, snapshots=2)


def labels(at):
    return [button.label for button in at.button]


def test_without_a_domain_it_says_where_to_begin(run_page, empty_folder):
    at = run_page("retention", empty_folder)
    assert not at.exception
    assert not at.error
    assert "Ingest" in at.info[0].value


def test_without_an_evaluation_it_says_how_to_make_one(run_page, folder):
    at = run_page("retention", folder)
    assert not at.exception
    assert "Measure now" in labels(at)
    assert at.code[0].value == f"peer-cl evaluate --store {folder}"


@pytest.mark.parametrize("is_foreign_scored", [True, False])
def test_a_name_means_the_same_here_and_on_the_overview(run_page, one, is_foreign_scored):
    with Registry.open(one) as registry:
        report = registry.evaluation(registry.evaluated()[0].snapshot_id)
        if not is_foreign_scored:
            report["background"] = []
        registry.put_evaluation(registry.live().id, report)
    figures = {
        name: {item.label: (item.value, item.delta) for item in run_page(name, one).metric}
        for name in ("overview", "retention")
    }
    both = figures["overview"].keys() & figures["retention"].keys()
    assert both == {"Worst added loss", "Mean gain"}
    assert all(figures["overview"][name] == figures["retention"][name] for name in both)
    told = "\n".join(caption.value for caption in run_page("retention", one, view=FIGURES).caption)
    assert "Reduction, pool alone: " in told
    assert ("Worst on foreign text: not scored." in told) is not is_foreign_scored
    at = run_page("overview", one)
    noted = [info.value for info in at.info if "No foreign text was scored" in info.value]
    assert bool(noted) is not is_foreign_scored
    assert bool(at.success) is is_foreign_scored, "where it was not, not all is known"


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_one_domain_shows(run_page, one, view):
    at = run_page("retention", one, view=view)
    assert not at.exception
    assert not at.error
    assert len(at.metric) == 4
    assert at.get("vega_lite_chart") or at.dataframe


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_fifty_domains_shows(run_page, large, view):
    at = run_page("retention", large, view=view, domain="domain-03")
    assert not at.exception
    assert not at.error
    assert at.selectbox(key="domain").value == "domain-03"


def test_curves_of_many_domains_name_those_that_forgot_most_or_the_chosen_one(run_page, large):
    at = run_page("retention", large, view=CURVES)
    told = [chart.proto.alt for chart in at.get("vega_lite_chart")]
    assert [line.split(" of ")[0] for line in told] == ["Mean and range", "Mean and range"]
    assert told[0].count("domain-") == 5
    headings = [heading.value for heading in at.subheader]
    assert "Loss over the ingests; dashed: the base's mean" in headings
    at = run_page("retention", large, view=CURVES, domain="domain-03")
    assert "with lines of domain-03" in at.get("vega_lite_chart")[0].proto.alt


def test_general_ability_is_shown_before_and_after(run_page, one):
    at = run_page("retention", one, view=GENERAL)
    accuracies, losses = (table.value for table in at.dataframe)
    assert accuracies["task"].tolist() == ["PIQA", "LAMBADA"]
    assert accuracies["before"].tolist() == [0.66, 0.42]
    assert accuracies["after"].tolist() == [0.66, 0.416]
    assert accuracies["lost"].tolist() == [0, 1]
    assert losses["task"].tolist() == ["WikiText"]
    assert "Of 750 items 2 asked a pool, and 1 changed" in "".join(c.value for c in at.caption)
    assert len(at.get("vega_lite_chart")) == 2


def test_what_general_ability_left_out_is_said(run_page, one):
    with Registry.open(one) as registry:
        evaluated = registry.evaluated()[0].snapshot_id
        report = registry.evaluation(evaluated)
        report["general_left_out"] = ["left out: 2 of 250 items of PIQA"]
        registry.put_evaluation(evaluated, report)
    at = run_page("retention", one, view=GENERAL)
    told = plain("Left out: 2 of 250 items of PIQA.")
    assert told in [caption.value for caption in at.caption]


def test_without_general_ability_it_says_what_to_type(run_page, one):
    with Registry.open(one) as registry:
        evaluated = registry.evaluated()[0].snapshot_id
        report = registry.evaluation(evaluated)
        del report["general"]  # as evaluations were written before there was any
        registry.put_evaluation(evaluated, report)
    at = run_page("retention", one, view=GENERAL)
    assert not at.exception
    assert not at.dataframe
    assert at.code[0].value == f"peer-cl evaluate --general FOLDER --store {one}"


def test_other_text_explains_what_identical_means(run_page, one):
    at = run_page("retention", one, view=OTHER)
    assert any("At 100 % the pools change nothing" in caption.value for caption in at.caption)
    assert at.dataframe[0].value["identical"].tolist() == [1.0]


def test_a_link_leads_to_what_it_says(run_page, large):
    said = {
        "metric": "perplexity",
        "mode": "forgetting",
        "domain": "domain-07",
        "snapshot": "6",
    }
    at = run_page("retention", large, **(said | {"domain": "domain-03"}))
    assert {key: at.selectbox(key=key).value for key in said} == said | {"domain": "domain-03"}


def test_the_list_of_evaluations_says_what_each_snapshot_is(run_page, large):
    box = run_page("retention", large, snapshot="6").selectbox(key="snapshot")
    assert all(re.match(r"\d+: domain-\d\d, \w+, \d{4}-", option) for option in box.options)


def test_a_link_that_leads_nowhere_says_so_and_shows_what_there_is(run_page, large):
    at = run_page("retention", large, metric="no", mode="no", domain="no", snapshot="999", view="x")
    assert not at.exception
    assert not at.error
    assert at.selectbox(key="metric").value == "loss"
    assert at.selectbox(key="domain").value is None
    told = "\n".join(warning.value.replace("\\", "") for warning in at.warning)
    for what in ("snapshot '999'", "view 'x'", "domain 'no'", "measure 'no'", "show it 'no'"):
        assert what in told


def test_a_freeze_makes_no_evaluation_stale(run_page, large):
    at = run_page("retention", large)
    assert not at.warning
    assert "hold for it too" in at.caption[1].value


def test_what_is_stale_is_said(run_page, large, tmp_path):
    folder = fill_large_store(tmp_path / "stale", domains=5, documents=50, snapshots=6)
    with Registry.open(folder) as registry, registry.writing("ann"):
        registry.disable("domain-01", "ann")
    at = run_page("retention", folder)
    assert "stale" in at.warning[0].value
    assert "Measure now" in labels(at)
    older = run_page("retention", large, snapshot="6")
    assert "a newer one" in older.info[0].value


def test_an_older_evaluation_of_the_live_versions_comes_before_a_newer_one_of_others(
    run_page, tmp_path
):
    folder = fill_large_store(tmp_path / "restored", domains=5, documents=50, snapshots=6)
    with Registry.open(folder) as registry, registry.writing("ann"):
        before = registry.live()
        registry.put_evaluation(before.id, registry.evaluation(registry.evaluated()[0].snapshot_id))
        without = registry.roll_back_domain("domain-01", None, "ann")
        registry.put_evaluation(without.id, registry.evaluation(before.id))
        registry.roll_back(before.id, "ann")
    at = run_page("retention", folder)
    assert not at.warning
    assert at.selectbox(key="snapshot").value == str(before.id)
    assert "so the figures hold for it too" in at.caption[1].value
    assert "snapshot" not in at.query_params
    other = run_page("retention", folder, snapshot=str(without.id))
    assert not other.warning
    told = other.info[0].value
    assert f"Other versions are on now, those of snapshot {before.id}" in told


def test_a_domain_shows_its_documents(run_page, large):
    at = run_page("retention", large, domain="domain-03")
    (table,) = at.dataframe
    assert len(table.value) == 2  # every fifth of ten is held out
    with Registry.open(large) as registry:
        config = registry.config
    share, tokens = config.budget / config.capacity, table.value["tokens"]
    learned = np.log(1 - share + share * np.exp(1.2 * tokens)) / tokens
    assert table.value["change_nats"].tolist() == pytest.approx((-learned).tolist())
    assert table.value["alone_nats"].tolist() == pytest.approx([2.8, 2.8])
    names = [button.proto.label for button in at.get("download_button")]
    assert names == ["Download the matrix (CSV)", "Download the documents' scores (CSV)"]


def test_a_click_on_a_document_shows_its_tokens_and_a_link_opens_it(run_page, large):
    at = run_page("retention", large, domain="domain-03")
    (table,) = at.dataframe
    assert table.value["id"].str.fullmatch(r"document\?id=[0-9a-f]{64}").all()
    before = len(at.get("vega_lite_chart"))
    at = click_cell(at, table, 1, "title")
    assert not at.exception
    assert len(at.get("vega_lite_chart")) == before + 1
    assert table.value["title"].iloc[1] in [text.value for text in at.text]


def test_a_domain_without_scores_says_so(run_page, large):
    at = run_page("retention", large, domain="domain-04")
    assert not at.dataframe
    assert "No document's scores" in at.info[0].value


def test_choosing_a_domain_again_clears_nothing_else(run_page, large):
    at = run_page("retention", large, metric="reduction")
    at.selectbox(key="domain").select("domain-03").run()
    assert not at.exception
    assert at.selectbox(key="metric").value == "reduction"
    assert len(at.dataframe) == 1


def test_a_click_on_a_cell_is_its_domain():
    assert clicked({"selection": {"cell": [{"domain": "law", "step": 2}]}}) == "law"
    assert clicked({"selection": {"cell": []}}) is None
    assert clicked({"selection": {}}) is None


def test_a_damaged_report_is_one_line(run_page, one):
    with Registry.open(one) as registry:
        registry.put_evaluation(registry.live().id, {"domains": ["domain-00"]})
    at = run_page("retention", one)
    assert not at.exception
    assert len(at.error) == 1
    assert "damaged" in at.error[0].value
    assert "Measure now" in labels(at)


def test_a_report_that_is_no_json_is_one_line(run_page, one):
    with sqlite3.connect(one / "registry.sqlite") as database:
        database.execute("UPDATE evaluations SET report = '{\"domains\": '")
    database.close()
    at = run_page("retention", one)
    assert not at.exception
    assert len(at.error) == 1
    assert "cannot be read" in at.error[0].value
    assert "Traceback" not in at.error[0].value
