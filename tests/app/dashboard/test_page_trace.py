"""The Trace page, on real small stores: text in, speakers, rows, documents and words out."""

import json
import re
import sqlite3
import time

import pytest
from filled_store import grow, new_store
from large_store import fill_large_store
from tiny_base import SUBJECTS, copy_store, make_tiny_store

from app.dashboard.frames.trace import weights_in_words
from app.dashboard.page_trace import ASKED
from app.dashboard.trace_reading import fitting_lines
from app.dashboard.trace_search import WHY
from peer_cl.errors import InputError
from pipelines import open_store
from pipelines.writing import write

TEXT = SUBJECTS["law"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("trace"))


@pytest.fixture
def run_loaded(run_page):
    """Run the page until the model is there."""

    def run(folder, **query):
        return wait(run_page("trace", folder, **query))

    return run


def wait(at):
    until = time.monotonic() + 120
    while at.get("status") and time.monotonic() < until:
        time.sleep(0.1)
        at.run()
    assert not at.exception
    return at


def charts_of(at):
    return [chart.proto.alt for chart in at.get("vega_lite_chart")]


def test_without_a_domain_it_says_what_to_do(run_page, empty_folder):
    at = run_page("trace", empty_folder)
    assert not at.error
    assert "Ingest page" in at.info[0].value
    assert not at.text_area


def test_where_all_is_disabled_it_says_so(run_page, made, tmp_path):
    folder = copy_store(made, tmp_path)
    with open_store(folder) as store:
        store.disable("law")
        store.disable("medicine")
    assert "Enable one" in run_page("trace", folder).info[0].value


def test_the_model_loads_while_the_page_stands(run_page, made, tmp_path):
    at = run_page("trace", copy_store(made, tmp_path))
    assert at.text_area[0].label == "Text"
    assert "Loading" in at.get("status")[0].label
    wait(at)
    assert "press Trace" in at.info[0].value


def test_a_link_with_a_text_traces_it(run_loaded, made):
    text = " ".join([TEXT] * 5)
    at = run_loaded(made, text=text)
    assert at.text_area[0].value == text
    labels = [metric.label for metric in at.metric]
    assert labels == ["Tokens", "Loss of the base", "Loss with pools"]
    assert float(at.metric[2].value) < float(at.metric[1].value)
    told = charts_of(at)
    assert [text[:12] for text in told] == ["The text, ea", "Weight of th", *["Likeliest ne"] * 2]
    assert "law at" in told[0]
    rows, held, documents = (table.value for table in at.dataframe)
    assert set(rows["domain"]) == {"law"}
    assert (rows["strength"].diff().dropna() <= 0).all()
    assert "router weight" in rows
    assert (held["times even"] > 1).any()
    assert held["times even"].is_monotonic_decreasing
    assert documents["cosine"].is_monotonic_decreasing
    assert documents["likeness"].between(0, 1).all()
    assert documents["likeness"][0] < documents["cosine"][0], "0 is the domain's median"
    assert any("no proof of who taught" in told.value for told in at.caption)
    assert all(link.startswith("document?id=") for link in documents["open"])


def test_what_is_typed_is_traced_and_stands_in_the_address(run_loaded, made):
    at = run_loaded(made)
    at.text_area[0].set_value(TEXT)
    at.button[0].click().run()
    assert not at.error
    assert at.metric
    assert at.query_params["text"] == TEXT
    at.text_area[0].set_value(TEXT * 8)
    at.button[0].click().run()
    assert "text" not in at.query_params


def test_another_token_shows_other_rows(run_loaded, made):
    at = run_loaded(made, text=TEXT)
    before = at.dataframe[0].value
    (box,) = [box for box in at.selectbox if box.label == "Token"]
    box.set_value(5).run()
    assert not at.dataframe[0].value.equals(before)


def test_a_document_is_taken_from_a_list_or_a_link(run_loaded, made):
    at = run_loaded(made)
    take = next(button for button in at.button if button.label == "Take it")
    take.click().run()
    text = at.session_state[ASKED]
    with open_store(made) as store:
        first = store.registry.documents("law")[0]
        assert text == store.registry.document_text(first)
    assert at.query_params["document"] == first.document_id
    linked = run_loaded(made, document=first.document_id)
    assert linked.text_area[0].value == text
    assert linked.metric


def test_where_no_text_is_kept_no_document_is_offered(run_page, folder):
    with sqlite3.connect(folder / "registry.sqlite") as database:
        database.execute("UPDATE segment_documents SET text_object = NULL")
    database.close()
    at = run_page("trace", folder)
    assert not at.exception
    assert [told.value for told in at.caption if told.value.startswith("No text of law is kept")]
    assert "Take it" not in [button.label for button in at.button]


def test_of_many_documents_the_first_that_fit_are_offered(run_page, tmp_path):
    folder = new_store(tmp_path / "knowledge")
    grow(folder, "law", num_documents=1_000)
    at = run_page("trace", folder)
    (box,) = [box for box in at.selectbox if box.label == "Document"]
    assert len(box.options) == 200
    assert any("first 200 of 1,000" in told.value for told in at.caption)
    at.text_input(key="trace_search").input("law 987").run()
    (box,) = [box for box in at.selectbox if box.label == "Document"]
    (found,) = box.options
    assert found.startswith("[About] law 987 (train, ")
    at.text_input(key="trace_search").input("nothing like it").run()
    assert any("No document fits" in told.value for told in at.caption)
    assert not at.exception


@pytest.mark.parametrize("way", ["the list", "a link"])
def test_a_document_whose_text_is_gone_is_told_in_one_line(run_page, folder, way):
    with open_store(folder) as store:
        first = store.registry.documents("law")[0]
        store.registry.objects.path(first.text_object).unlink()
    if way == "a link":
        at = run_page("trace", folder, document=first.document_id)
    else:
        at = run_page("trace", folder)
        next(button for button in at.button if button.label == "Take it").click().run()
    assert not at.exception
    assert first.text_object[:12] in at.error[0].value
    assert "Traceback" not in at.error[0].value
    assert at.text_area[0].value == "", "the page stands, and another text can be asked"


def test_a_text_of_no_domain_is_the_bases(run_loaded, made):
    at = run_loaded(made, text="0 1 2 3")
    assert "the base alone answers" in at.info[0].value
    with open_store(made) as store:
        found = store.search("0 1 2 3")
    likeliest, odds = next(iter(found.log_odds.items()))
    assert f"{likeliest}: it needs +{found.needed[likeliest] - odds:.1f} nats" in at.info[0].value
    assert len(at.dataframe[0].value), "what it is near to is shown all the same"
    assert [text[:12] for text in charts_of(at)] == ["Likeliest ne"]
    assert [metric.label for metric in at.metric] == ["Tokens", "Loss of the base"]
    assert not any("below" in told.value for told in at.caption)
    next(button for button in at.button if "the likeliest" in button.label).click().run()
    assert not at.exception
    assert not at.info
    assert at.multiselect[0].value == [at.query_params["domains"]]
    assert any(metric.delta for metric in at.metric), "a domain was asked"


@pytest.mark.parametrize("text", [TEXT, "0 1 2 3"], ids=["asked", "unasked"])
def test_why_domains_are_asked_is_shown_once_it_is_opened(run_loaded, made, text):
    at = run_loaded(made, text=text)
    assert not any(told.startswith("How well") for told in charts_of(at))
    at.session_state[WHY] = True
    at.run()
    (told,) = [told for told in charts_of(at) if told.startswith("How well")]
    assert "law " in told
    assert "medicine " in told
    assert any("a bar that reaches it asks the domain" in told.value for told in at.caption)


def test_who_was_asked_by_name_needs_no_reason(run_loaded, made):
    at = run_loaded(made, text=TEXT, domains="law")
    assert at.metric
    assert not [box for box in at.expander if box.label.startswith("Why")]


def test_a_link_may_name_domains_and_wrong_ones_are_told(run_loaded, made):
    at = run_loaded(made, text=TEXT, domains="law,lav")
    assert at.multiselect[0].value == ["law"]
    assert "lav" in at.warning[0].value


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"text": "word " * 2000}, "the base's context is 512"),
        ({"text": "word " * 2000, "view": "Search"}, "the base's context is 512"),
        ({"document": "0123456789ab"}, "0123456789ab"),
    ],
    ids=["too long", "too long to search", "no such document"],
)
def test_what_cannot_be_traced_is_one_line(run_loaded, made, query, told):
    at = run_loaded(made, **query)
    assert len(at.error) == 1
    assert told in at.error[0].value


def test_an_empty_text_is_told(run_loaded, made):
    at = run_loaded(made, text=TEXT)
    at.text_area[0].set_value("  ")
    at.button[0].click().run()
    assert "is empty" in at.toast[0].value
    assert "press Trace" in at.info[0].value


def test_search_ranks_documents_of_every_domain(run_loaded, made):
    at = run_loaded(made, text=TEXT, view="Search")
    documents, rows = (table.value for table in at.dataframe)
    assert list(dict.fromkeys(documents["domain"])) == ["law", "medicine"]
    assert len(rows) == 10
    assert rows["router weight, summed"].is_monotonic_decreasing
    assert "Every enabled domain is searched" in at.caption[1].value
    (told,) = charts_of(at)
    assert told.startswith("How well each domain's signature fits")
    assert ", asked; medicine " in told
    assert "not asked, needs +" in told
    named = run_loaded(made, text=TEXT, view="Search", domains="medicine")
    assert "that you named are searched" in named.caption[1].value
    assert charts_of(named)[0].endswith(", asked by name")


def test_what_is_written_on_is_what_the_model_writes(run_loaded, made):
    at = run_loaded(made, text=TEXT, view="Write on")
    at.slider[0].set_value(8)
    next(button for button in at.button if button.label == "Write on").click().run()
    wait(at)
    assert not at.error
    with open_store(made) as store:
        model, tokenizer = store.load()
        writings = [
            write(model, tokenizer, TEXT, domains=domains, max_new_tokens=8)
            for domains in (None, ())
        ]
        model.detach()
    expected = [writing.text.strip() for writing in writings]
    assert [mark.value for mark in at.markdown] == ["**With pools**", "**The base alone**"]
    assert [text.value for text in at.text] == expected
    law, base = writings[0].weights["law"], writings[0].base_weight
    assert law + base == pytest.approx(1.0)
    by_pools, by_base = [told.value for told in at.main.caption[-2:]]
    assert by_pools.startswith(f"Held weights\\: {weights_in_words(base, {'law': law})}\\. Ended ")
    assert by_base.startswith("Ended ")
    at.run()
    assert [text.value for text in at.text] == expected
    assert [told.value for told in at.main.caption[-2:]] == [by_pools, by_base]


def test_what_no_domain_is_asked_for_is_written_once(run_loaded, made, monkeypatch):
    used = []
    monkeypatch.setattr(
        "pipelines.writing.write",
        lambda *given, **options: used.append(options) or write(*given, **options),
    )
    at = run_loaded(made, text="0 1 2 3", view="Write on")
    at.slider[0].set_value(8)
    next(button for button in at.button if button.label == "Write on").click().run()
    wait(at)
    assert len(used) == 1
    by_pools, by_base = [text.value for text in at.text]
    assert by_pools == by_base
    with open_store(made) as store:
        model, tokenizer = store.load()
        alone = write(model, tokenizer, "0 1 2 3", domains=(), max_new_tokens=8).text
        model.detach()
    assert by_base == (alone.strip() or "…")
    told = [told.value for told in at.main.caption[-2:]]
    assert told[0].startswith("No domain is asked\\: the base wrote\\. Ended ")
    assert told[1] == "The same, since no domain is asked\\."


def test_what_is_refused_before_it_begins_was_not_stopped(run_loaded, made):
    at = run_loaded(made, text="rent" + " rent" * 490, view="Write on")
    assert not at.error
    next(button for button in at.button if button.label == "Write on").click().run()
    assert "the base's context is 512" in at.error[0].value
    at.run()
    assert not any(told.value.startswith("Stopped") for told in at.caption)


def test_progress_is_told_in_tokens_and_seconds(run_loaded, made, monkeypatch):
    """The writing is stopped within, as a click on Stop does: what was told by then is kept."""

    def write_a_little(*given, on_text, **options):
        def hear(text):
            on_text(text)
            if len(told) == 2:
                raise InputError("enough")
            told.append(text)

        return write(*given, on_text=hear, **options)

    told = []
    monkeypatch.setattr("pipelines.writing.write", write_a_little)
    at = run_loaded(made, text=TEXT, view="Write on")
    next(button for button in at.button if button.label == "Write on").click().run()
    assert "enough" in at.error[0].value
    at.run()
    assert any(told.value.startswith("Stopped") for told in at.caption)
    (note,) = [one.value for one in at.caption if "of 40 tokens" in one.value]
    assert re.fullmatch(r"3 of 40 tokens, \d+ s", note)


def test_a_phone_gets_short_lines_and_others_may_choose_them(run_loaded, made):
    at = run_loaded(made, text=TEXT)
    widths = []
    for lines in ("long", "short"):
        at.segmented_control(key="trace_lines").set_value(lines).run()
        spec = json.loads(at.get("vega_lite_chart")[0].proto.spec)
        widths.append(spec["width"])
    assert widths == [816, 345], "358 pixels are free on a phone of 390"
    assert fitting_lines("Mozilla/5.0 (iPhone) Mobile/15E148") == "short"


def test_guidance_is_what_the_pools_are_written_with(run_loaded, made, monkeypatch):
    used = []
    monkeypatch.setattr(
        "pipelines.writing.write",
        lambda *given, **options: used.append(options) or write(*given, **options),
    )
    at = run_loaded(made, text=TEXT, view="Write on")
    at.slider[0].set_value(8)
    at.slider[1].set_value(1.5)
    next(button for button in at.button if button.label == "Write on").click().run()
    wait(at)
    assert not at.error
    assert [options["guidance_scale"] for options in used] == [1.5, 1.5]
    assert all(text.value for text in at.text)
    at.slider[1].set_value(1.0)
    wait(at.run())
    assert [text.value for text in at.text] == ["…", "…"]


def test_text_is_never_markdown(run_loaded, made):
    evil = "![x](http://evil.example/x.png) <b>law</b> :red[court]"
    for view in ("Who speaks", "Search", "Write on"):
        at = run_loaded(made, text=evil, view=view)
        assert not at.error
        for element in (*at.markdown, *at.caption, *at.info, *at.subheader):
            assert "evil" not in element.value


def test_a_base_that_is_not_there_is_one_line(run_loaded, tmp_path):
    folder = fill_large_store(tmp_path / "knowledge", domains=50, documents=500, snapshots=60)
    at = run_loaded(folder, text="some words")
    assert len(at.error) == 1
    assert "imagined" in at.error[0].value


def test_a_damaged_pool_is_one_line(run_loaded, made, tmp_path):
    folder = copy_store(made, tmp_path)
    with open_store(folder) as store:
        (segment,) = store.registry.domain("law").chain
        path = store.registry.objects.path(segment.pool_object)
    path.chmod(0o644)
    path.write_bytes(b"not a pool")
    at = run_loaded(folder, text=TEXT)
    assert len(at.error) == 1
    assert "domain law" in at.error[0].value
