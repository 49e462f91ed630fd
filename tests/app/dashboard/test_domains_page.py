"""Domains: the table, and a domain in detail."""

import json
import re
from dataclasses import replace

import pytest
from filled_store import grow, new_store
from pages import DOMAIN_PARTS, act_on, click_cell, everything

from app.dashboard.charts import domains as charts
from app.dashboard.charts import history as history_charts
from app.dashboard.frames import domains as frames
from app.dashboard.frames import history as history_frames
from app.dashboard.frames import learning
from app.dashboard.frames.counts import counted, kind_in_words
from app.output import size
from pipelines import TrainingSettings, open_store
from pipelines.probes import FACT_SOURCE, REWORDINGS_SOURCE

# --- looking -------------------------------------------------------------------------------------


def test_an_empty_store_is_told_what_to_do(run_page, empty_folder):
    at = run_page("domains", empty_folder)
    assert not at.exception
    assert "peer-cl ingest DOMAIN PATH" in at.info[0].value
    assert not at.dataframe


def test_all_domains_are_listed_live_or_not(run_page, folder):
    with open_store(folder) as store:
        store.roll_back("medicine", out=True)
    at = run_page("domains", folder)
    assert not at.exception
    table = at.dataframe[0].value.set_index("domain")
    assert table["state"].to_dict() == {"law": "live", "medicine": "out"}
    assert "Choose a domain" in at.info[0].value


def test_tables_of_domains_and_versions_tell_days_and_keep_room_for_states(run_page, folder):
    at = run_page("domains", folder, domain="law", part="Versions")
    domains, versions = at.dataframe
    day = re.compile(r"\d{4}-\d\d-\d\d")
    assert domains.value["changed"].map(day.fullmatch).all()
    assert "came" not in domains.value
    assert versions.value["made"].map(day.fullmatch).all()
    for table in (domains, versions):
        assert json.loads(table.proto.columns)["state"]["width"] >= 125


def chosen_cells(at):
    return at.session_state["all-domains"]["selection"]["cells"]


def test_a_click_on_any_cell_of_a_row_opens_its_domain(run_page, folder):
    at = run_page("domains", folder)
    assert not chosen_cells(at)
    at = click_cell(at, at.dataframe[0], 1, "tokens")
    assert not at.exception
    assert at.selectbox(key="domain").value == "medicine"
    assert at.subheader[0].value == "medicine"


def test_the_table_marks_what_the_list_or_the_address_chose(run_page, folder):
    at = run_page("domains", folder, domain="medicine")
    assert chosen_cells(at) == [(1, "domain")]
    at.selectbox(key="domain").select("law").run()
    assert chosen_cells(at) == [(0, "domain")]
    assert not chosen_cells(run_page("domains", folder, domain="lav"))


def test_a_link_to_a_domain_opens_it_and_a_wrong_one_says_so(run_page, folder):
    at = run_page("domains", folder, domain="law")
    assert [metric.value for metric in at.metric][:5] == ["live", "v2", "4", "0", "2"]
    wrong = run_page("domains", folder, domain="lav")
    assert not wrong.exception
    assert "There is no domain" in wrong.warning[0].value
    assert not wrong.metric
    wrong = run_page("domains", folder, domain="law", part="x_y")
    assert not wrong.exception
    told = wrong.warning[0].value.replace("\\", "")
    assert "no part of a domain 'x_y'; known: Versions, Corpus" in told


@pytest.mark.parametrize("part", DOMAIN_PARTS)
def test_every_part_of_a_store_with_one_domain(run_page, tmp_path, part):
    place = new_store(tmp_path / "one")
    grow(place, "law")
    at = run_page("domains", place, domain="law", part=part)
    assert not at.exception
    assert not at.error
    assert at.metric


@pytest.mark.parametrize("part", DOMAIN_PARTS)
def test_every_part_of_a_large_store(run_page, large_folder, part):
    at = run_page("domains", large_folder, domain="domain-07", part=part)
    assert not at.exception
    assert not at.error
    assert len(at.dataframe[0].value) == 50


@pytest.mark.parametrize("part", DOMAIN_PARTS)
def test_every_part_of_a_damaged_store(run_page, folder, part):
    """What the page shows is in the registry; a damaged object is told where it is read."""
    for path in folder.glob("objects/*/*"):
        path.chmod(0o644)
        path.write_bytes(b"")
    at = run_page("domains", folder, domain="law", part=part)
    assert not at.exception
    for button in [button for button in at.button if button.label.startswith("Show its weight")]:
        button.click().run()
        assert "is damaged" in at.error[0].value
        assert "Traceback" not in at.error[0].value


def test_documents_are_searched_and_cut(run_page, folder):
    at = run_page("domains", folder, domain="law", part="Corpus")
    assert len(at.dataframe[-1].value) == 6
    at.text_input(key="search").input("law 1").run()
    assert set(at.dataframe[-1].value["title"]) == {"[About] law 1"}
    at.text_input(key="search").input("nothing like it").run()
    assert "No document fits" in at.info[0].value


def test_a_domain_that_is_not_live_shows_the_corpus_of_its_last_version(run_page, folder):
    with open_store(folder) as store:
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law", part="Corpus")
    assert "not live" in everything(at)
    assert len(at.dataframe[-1].value) == 6


def test_what_a_domain_that_is_out_keeps_on_disk_is_told(run_page, folder):
    with open_store(folder) as store:
        kept = sum(segment.size_bytes for segment in store.registry.domain("law").versions)
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law")
    row = at.dataframe[0].value.set_index("domain").loc["law"]
    assert (row["size_bytes"], row["kept_bytes"]) == (0, kept)
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["Documents kept"] == "6"
    assert figures["Pools on disk"] == size(kept)
    assert "Experts in 0 layers" not in figures
    assert f"6 documents with {size(kept)} of pools are still on disk" in at.info[0].value
    with open_store(folder) as store:
        store.purge("law")
    at = run_page("domains", folder, domain="law")
    assert at.dataframe[0].value.set_index("domain").loc["law", "kept_bytes"] == 0
    assert not [info for info in at.info if "on disk" in info.value]
    assert {metric.label: metric.value for metric in at.metric}["Pools in use"] == "0 B"


def test_versions_that_are_not_live_count_on_disk_and_not_in_use(run_page, folder):
    with open_store(folder) as store:
        first, second = store.registry.domain("law").chain
        store.roll_back("law", first.id)
    at = run_page("domains", folder, domain="law")
    figures = {metric.label: metric.value for metric in at.metric}
    assert sum(int(figures[name]) for name in ("Texts learned", "Facts", "Texts held out")) == 3
    assert figures["Pools in use"] == size(first.size_bytes)
    assert figures["Pools on disk"] == size(first.size_bytes + second.size_bytes)


def test_versions_are_drawn_where_there_is_more_to_say_than_one_stretch(run_page, folder):
    at = run_page("domains", folder, domain="medicine", part="Versions")
    assert not at.get("vega_lite_chart")
    assert len(run_page("domains", folder, domain="law").get("vega_lite_chart")) == 1
    with open_store(folder) as store:
        store.roll_back("medicine", out=True)
    at = run_page("domains", folder, domain="medicine", part="Versions")
    assert len(at.get("vega_lite_chart")) == 1, "it ended, which the table does not show"


def test_a_domain_that_is_out_does_not_reach_the_live_snapshot(folder):
    with open_store(folder) as store:
        store.roll_back("law", out=True)
        found = store.registry.snapshots()
    spans = history_frames.spans(found, "law")
    spec = history_charts.versions(spans, {"law": "#4477aa"}, found).to_dict()
    assert spec["layer"][1]["encoding"]["x"]["scale"]["domain"] == [1, 6]
    column, bars = spec["datasets"].values()
    assert max(row["end"] for row in bars) == 5
    assert column == [{"first": 5, "end": 6, "what": "live now"}]
    assert {row["label"] for row in bars} == {""}, "its lane has its name"


# --- frames and charts ---------------------------------------------------------------------------


def test_versions_say_what_they_grew_on_and_whether_they_are_there(folder):
    with open_store(folder) as store:
        first = store.registry.domain("law").chain[0].id
        store.roll_back("law", first)
        store.purge("law", retired=True)
        table = frames.versions(store.registry.domain("law"))
    assert table["state"].tolist() == ["live", "purged"]
    assert table["grew on"].tolist() == ["", "v1"]
    assert table["end_loss"].isna().tolist() == [False, True]
    numbers = ["tokens", "experts", "end_loss", "validation", "seconds"]
    assert table.loc[0, numbers].tolist() == [20, 2048, 2.5, 3.0, 1.5]


def test_sources_are_counted_by_split(folder):
    with open_store(folder) as store:
        table, num = frames.sources(store.registry.documents("law"))
    assert num == 1
    assert table.to_dict("records") == [
        {
            "source": "notes.txt",
            "texts": 6,
            "facts": 0,
            "questions": 0,
            "train": 4,
            "validation": 0,
            "test": 2,
            "tokens": 60,
        }
    ]


def test_texts_facts_and_questions_are_counted_apart(run_page, tmp_path):
    place = new_store(tmp_path / "facts")
    grow(place, "law", num_documents=5, kinds={3: "fact", 4: "probe"})
    at = run_page("domains", place, domain="law", part="Corpus")
    told = {metric.label: metric.value for metric in at.metric}
    assert (told["Texts learned"], told["Facts"], told["Texts held out"]) == ("2", "1", "1")
    said = everything(at)
    assert "2 texts learned, 1 fact, 1 text held out, 1 question to test with." in said
    table = at.dataframe[1].value.iloc[0]
    assert table[["texts", "facts", "questions", "train", "test"]].tolist() == [3, 1, 1, 2, 1]
    assert sorted(at.dataframe[2].value["kind"]) == ["fact", "question", "text", "text", "text"]
    at.text_input(key="search").input("law 1").run()
    assert "1 document." in [caption.value for caption in at.caption]
    for name, shown in (("overview", "domains?domain=law"), ("domains", "law")):
        row = run_page(name, place).dataframe[0].value.set_index("domain").loc[shown]
        assert row[["texts", "facts", "held_out", "tokens"]].tolist() == [2, 1, 1, 20]
    out = act_on(run_page, place, "law", "Take out")
    assert "and with it 2 texts learned, 1 fact, 1 text held out." in everything(out)


def test_rewordings_are_no_questions_and_no_documents(folder):
    with open_store(folder) as store:
        found = store.registry.documents("law")
    kept = replace(found[0], kind="probe", split="test", source=REWORDINGS_SOURCE)
    assert counted([*found, kept], questions=True) == (
        f"{counted(found)}, 1 text in other words too"
    )
    assert counted([*found, kept]) == counted(found)
    assert kind_in_words(kept) == "rewordings"
    assert kind_in_words(replace(kept, source=FACT_SOURCE)) == "question"
    table, num = frames.sources([*found, kept])
    assert table.equals(frames.sources(found)[0])
    assert num == len(table)
    rows, _ = frames.documents([kept])
    assert rows["kind"].tolist() == ["rewordings"]


def test_lines_of_a_file_are_one_source_and_many_sources_are_cut(folder):
    with open_store(folder) as store:
        one, *_ = store.registry.documents("law")
    lines = [replace(one, source=f"notes.jsonl:{number}") for number in range(5)]
    others = [replace(one, source=f"http://court:{number}") for number in range(4)]
    table, num = frames.sources([*others, *lines], limit=3)
    assert table["source"].tolist()[0] == "notes.jsonl"
    assert (table["texts"].tolist(), num) == ([5, 1, 1], 5)


def test_a_search_counts_what_fits_though_it_shows_less(folder):
    with open_store(folder) as store:
        found = store.registry.documents("law")
    table, num = frames.documents(found, search="ABOUT law", limit=4)
    assert (len(table), num) == (4, 6)
    table, num = frames.documents(found, split="test")
    assert set(table["split"]) == {"test"}
    by_id, _ = frames.documents(found, search=found[0].document_id[:12])
    assert by_id["document"].tolist() == [f"document?id={found[0].document_id}"]


def test_a_search_finds_accents_in_either_form_of_writing(folder):
    with open_store(folder) as store:
        one, other, *_ = store.registry.documents("law")
    found = [replace(one, title="Cafe\u0301"), replace(other, source="caf\u00e9.txt")]
    for search in ("Cafe\u0301", "caf\u00e9"):
        assert frames.documents(found, search=search)[1] == 2


def test_long_runs_are_thinned_and_validation_is_kept(large_folder):
    with open_store(large_folder) as store:
        detail = store.registry.domain("domain-03")
    table = frames.losses(detail, most_points=10)
    training = table[table["kind"] == "training"]
    assert len(training) == 11
    assert training["step"].iloc[-1] == 100, "the last step is always there"
    assert table[table["kind"] == "validation"]["step"].tolist() == [20, 40, 60, 80, 100]


def test_settings_that_differ_from_the_defaults_stand_first(folder):
    with open_store(folder) as store:
        detail = store.registry.domain("law")
    first, second = detail.runs
    shape = {"num_experts": 1024, "top_k": 8}
    told = TrainingSettings(seed=7, row_learning_rate=1e-3).record() | {"shape": shape}
    runs = (replace(first, config={"text_passes": 1.5}), replace(second, config=told))
    table, num = frames.run_settings(replace(detail, runs=runs), most_runs=8)
    assert table["setting"].tolist()[:num] == ["row learning rate", "seed", "num experts"]
    assert table.columns.tolist() == ["setting", "v1", "v2", "default", "meaning"]
    rows = table.set_index("setting")
    assert rows.loc["row learning rate", ["v1", "v2", "default"]].tolist() == ["", "0.001", "0.006"]
    assert rows.loc["text passes", ["v1", "v2"]].tolist() == ["1.5", "1.5"]
    newest, _ = frames.run_settings(replace(detail, runs=runs), most_runs=1)
    assert "v1" not in newest


def test_learning_shows_how_each_version_was_trained(run_page, folder):
    at = run_page("domains", folder, domain="law", part="Learning")
    table = at.dataframe[-1].value
    assert table["setting"].tolist() == ["seed"]
    assert table[["v1", "v2", "default"]].iloc[0].tolist() == ["0", "0", "0"]
    assert "0 settings with another value than today's default" in everything(at)


def test_charts_have_units_colours_and_no_text_of_documents(folder):
    with open_store(folder) as store:
        detail = store.registry.domain("law")
        found, documents = store.registry.snapshots(), store.registry.documents("law")
    spans = history_frames.spans(found, "law")
    bases = learning.base_losses(detail, documents, 3.5)
    ends = learning.fact_ends(detail, documents)
    table = frames.losses(detail)
    spec = json.dumps(charts.losses(table, "#4477aa", bases=bases, ends=ends).to_dict())
    assert "nats a token" in spec
    assert "training step" in spec
    assert "#4477aa" in spec
    lanes = json.dumps(history_charts.versions(spans, {"law": "#4477aa"}, found).to_dict())
    assert "snapshot (number)" in lanes
    assert "[About]" not in spec + lanes


def test_shades_end_with_the_domains_own_colour():
    found = charts.shades("#4477aa", 3)
    assert found[-1] == "#4477aa"
    assert len(set(found)) == 3


# --- with a model --------------------------------------------------------------------------------
