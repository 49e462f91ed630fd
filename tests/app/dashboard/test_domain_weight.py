"""Domains: the weight of a pool over a document."""

import json

import pytest
import streamlit as st
from pages import everything

from app.dashboard.charts import domains as charts
from app.dashboard.frames import domains as frames
from pipelines import open_store


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A tiny real store with law and medicine."""
    from tiny_base import make_tiny_store  # it loads torch, which other tests here do without

    return make_tiny_store(tmp_path_factory.mktemp("learned"))


def shown(at):
    """Press the button and wait until the model is loaded."""
    next(button for button in at.button if button.label.startswith("Show its weight")).click().run()
    for _ in range(60):
        if at.get("vega_lite_chart"):
            break
        at.run()
    return at


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["its own, held out", "another domain's, held out"])
def test_the_weight_of_a_pool_over_a_document(run_page, learned, kind):
    st.cache_resource.clear()
    at = run_page("domains", learned, domain="law", part="Weight")
    at.radio[0].set_value(kind).run()
    at.checkbox[0].check().run()
    shown(at)
    assert not at.exception
    assert not at.error
    assert "Weight of law after the whole text" in everything(at)
    table = at.dataframe[-1].value
    assert table["weight"].between(0, 1).all()
    assert len(table) > 5


@pytest.mark.slow
def test_weights_add_up_to_one_at_every_token(learned):
    with open_store(learned) as store:
        held = store.registry.documents("law", split="test", kind="text")[0]
        trace = store.trace(store.registry.document_text(held), ask="all")
    table = frames.weights(trace)
    assert set(table["speaker"]) == {"base", "law", "medicine"}
    assert table.groupby("place")["weight"].sum().round(6).eq(1).all()
    spec = json.dumps(charts.weights(table, {"law": "#111111", "medicine": "#222222"}).to_dict())
    assert "#8a8f98" in spec, "the base is grey"
    one = frames.tokens(trace, "law")
    assert one["token"].str.cat() in f" {trace.text}" or trace.text in one["token"].str.cat()


def test_a_domain_that_does_not_speak_says_so(run_page, folder):
    with open_store(folder) as store:
        store.disable("law")
    at = run_page("domains", folder, domain="law", part="Weight")
    assert "live and enabled" in everything(at)
    assert not [button for button in at.button if button.label.startswith("Show its weight")]
