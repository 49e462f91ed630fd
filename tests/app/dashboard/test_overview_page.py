"""Overview: what is wrong, the headline figures with their formulas, and the live domains."""

import copy
import importlib
import re
from pathlib import Path

import pytest
import streamlit as st
from filled_store import grow, new_store

from app.bound import worst_added
from app.dashboard import figures, troubles
from app.dashboard.charts import overview as charts
from app.dashboard.frames import overview as frames
from app.output import size
from peer_cl.metrics import backward_transfer
from pipelines import open_store
from stores import NewJob
from stores.queries import Evaluation

METRICS = Path(__file__).parents[3] / "docs" / "metrics.md"
BASE = {"law": 4.0, "medicine": 3.0}


def report(domains=("law", "medicine"), *, losses=(3.0, 2.7), worst=0.01, recall=0.9):
    """Return a report as `evaluate` writes it, of the parts that the page reads."""
    matrix = [[BASE[name] for name in domains]]
    matrix += [[loss for loss, _ in zip(losses, domains, strict=False)]] * len(domains)
    return {
        "domains": list(domains),
        "unmeasured": [],
        "matrix": {"loss_nats": matrix},
        "metrics": {"bwt": backward_transfer([[-loss for loss in row] for row in matrix])},
        "budget": 0.02,
        "bound_nats": 0.0202,
        "background": [{"source": "films", "kind": "prose", "max_added_nats": worst}],
        "mixture": [
            {
                "domain": name,
                "base_loss_nats": BASE[name],
                "loss_nats": loss,
                "kept": 0.95,
                "max_added_nats": -1.0,
            }
            for name, loss in zip(domains, losses, strict=False)
        ],
        "recall": [
            {"domain": name, "wording": wording, "mixture": share}
            for name in domains
            for wording, share in (("seen", recall), ("reworded", recall / 3))
        ],
    }


def evaluated(folder, **changes):
    """Put a report on the live snapshot."""
    with open_store(folder) as store:
        live = store.registry.live()
        names = [state.domain for state in live.domains]
        store.registry.put_evaluation(live.id, report(tuple(names), **changes))


def texts(at):
    """Return everything that a page says, in one string."""
    parts = [*at.error, *at.warning, *at.info, *at.success, *at.caption, *at.markdown, *at.text]
    tables = [table.value.to_string() for table in at.dataframe]
    return "\n".join([str(part.value) for part in parts] + tables).replace("\\", "")


@pytest.fixture
def evaluations(folder):
    evaluated(folder, losses=(3.2, 2.8))
    grow(folder, "law")
    evaluated(folder)
    with open_store(folder) as store:
        return store.registry.evaluations(store.registry.live().id)


# --- pages ---------------------------------------------------------------------------------------


def test_an_empty_store_is_told_what_to_do(run_page, empty_folder):
    at = run_page("overview", empty_folder)
    assert not at.exception
    assert "peer-cl ingest DOMAIN PATH" in texts(at)
    assert not at.metric


def test_a_store_that_was_never_evaluated_says_so_first(run_page, folder):
    at = run_page("overview", folder)
    assert not at.exception
    assert "has no evaluation" in at.warning[0].value
    assert not at.metric
    names = ["domains?domain=law", "domains?domain=medicine"]
    assert list(at.dataframe[0].value["domain"]) == names, "each opens its domain"


def test_a_whole_store_with_figures(run_page, folder):
    evaluated(folder)
    at = run_page("overview", folder)
    assert not at.exception
    assert "Nothing is wrong" in at.success[0].value
    assert [(metric.label, metric.value) for metric in at.metric] == [
        ("Worst added loss", "+0.0100"),
        ("Backward transfer", "0.0000"),
        ("Mean gain", "+0.650"),
        ("Recall of trained facts", "90%"),
    ]
    assert all(metric.delta for metric in at.metric), "every figure has its unit"
    table = at.dataframe[0].value.set_index("domain")
    assert table.loc[
        "domains?domain=law", ["base_loss", "loss", "retained", "recall"]
    ].tolist() == [4, 3, 1, 0.9]
    assert len(at.latex) == 4


def test_a_line_says_what_the_store_is_and_what_goes_on(run_page, folder):
    with open_store(folder) as store:
        kept = size(sum(item.kept_bytes for item in store.registry.domains()))
    told = [caption.value.replace("\\", "") for caption in run_page("overview", folder).caption]
    assert f"Base imagined · 2 of 4 domains · budget 0.02 · {kept} of pools on disk" in told
    assert "no open job" in told
    with open_store(folder) as store:
        jobs = store.registry.jobs
        jobs.add(NewJob(kind="evaluate", domain=None, request={"background": True}, who="ann"))
    at = run_page("overview", folder)
    assert "no open job" not in [caption.value for caption in at.caption]
    assert at.get("page_link")[0].proto.label == "1 open job"


def test_one_domain_alone_has_nothing_to_forget(run_page, tmp_path):
    place = new_store(tmp_path / "one")
    grow(place, "law")
    evaluated(place)
    at = run_page("overview", place)
    assert not at.exception
    assert "nothing earlier that could be forgotten" in texts(at)


def test_a_store_of_which_all_is_rolled_back_points_to_the_history(run_page, tmp_path):
    place = new_store(tmp_path / "one")
    grow(place, "law")
    with open_store(place) as store:
        store.roll_back("law", out=True)
    at = run_page("overview", place)
    assert "No domain is live" in texts(at)


def test_a_stale_evaluation_is_told_with_what_changed_since(run_page, folder):
    evaluated(folder)
    with open_store(folder) as store:
        store.freeze("law")
        at = run_page("overview", folder)
        assert not at.warning, "freezing changes no figure"
        store.disable("medicine")
    at = run_page("overview", folder)
    assert len(at.warning) == 1
    assert "medicine disabled" in at.warning[0].value
    assert at.metric, "the figures are shown all the same"


def test_what_was_measured_before_a_domain_was_taken_out_and_put_back_holds_again(run_page, folder):
    grow(folder, "law")
    evaluated(folder)
    with open_store(folder) as store:
        measured = store.registry.live().id
        store.roll_back("medicine", out=True)
    evaluated(folder, losses=(3.9, 2.9))
    with open_store(folder) as store:
        store.restore(measured)
    at = run_page("overview", folder)
    assert not at.warning
    assert "Nothing is wrong" in at.success[0].value
    assert f"Of snapshot {measured}, evaluated" in texts(at)
    table = at.dataframe[0].value.set_index("domain")
    assert table["loss"].tolist() == [3.0, 2.7]
    assert table.loc["domains?domain=law", "left"] == pytest.approx([1, 0.75])
    with open_store(folder) as store:
        store.disable("medicine")
    (told,) = [box.value for box in run_page("overview", folder).warning]
    assert f"of snapshot {measured + 1} " in told, "where none holds, the newest is told"


def test_damage_comes_first_and_the_full_check_tells_all(run_page, folder):
    evaluated(folder)
    with open_store(folder) as store:
        segment = store.registry.domain("law").chain[0]
        path = store.registry.layout.objects / segment.pool_object[:2] / segment.pool_object
        size = path.stat().st_size
    path.chmod(0o644)
    path.write_bytes(b"short")
    at = run_page("overview", folder)
    assert not at.exception
    assert at.error[0].value.startswith("The pool of law v1 is damaged")
    path.write_bytes(b"x" * size)  # the same size: the quick look cannot see it
    st.cache_data.clear()  # it is looked again after a while only
    at = run_page("overview", folder)
    assert not at.error
    before = path.read_bytes()
    at.button[0].click().run()
    assert "is damaged: its bytes have another hash" in texts(at)
    assert path.read_bytes() == before, "nothing is repaired"


def test_a_job_that_failed_is_told_until_a_later_one_went_well(run_page, folder):
    def ended(state, **outcome):
        with open_store(folder) as store:
            new = NewJob(kind="ingest", domain="law", request={"corpus": {}}, who="ann", why="")
            job = store.registry.jobs.add(new)
            store.registry.jobs.start(job.id)
            store.registry.jobs.end(job.id, state, **outcome)

    ended("failed", error="no space is left [here](http://x)")
    at = run_page("overview", folder)
    (told,) = [box.value for box in at.warning if "job" in box.value]
    assert "ingest of law" in told
    assert r"\[here\]" in told
    ended("done")
    assert not [box for box in run_page("overview", folder).warning if "job" in box.value]


def test_a_job_that_failed_is_of_the_past_once_its_domain_has_learned_or_is_purged(
    run_page, folder
):
    def told():
        return [box.value for box in run_page("overview", folder).warning if "job" in box.value]

    for domain, act in (("law", grow), ("medcine", None)):
        with open_store(folder) as store:
            new = NewJob(kind="ingest", domain=domain, request={"corpus": {}}, who="ann", why="")
            job = store.registry.jobs.add(new)
            store.registry.jobs.end(job.id, "failed", error="no space is left")
        assert len(told()) == 1
        if act is not None:
            act(folder, domain)  # from the command line, say
        else:
            with open_store(folder) as store:
                store.purge(domain)
        assert told() == []


def test_an_erasure_that_failed_is_told_until_its_documents_are_erased(run_page, folder):
    def ended(kind, state, **request):
        with open_store(folder) as store:
            new = NewJob(kind=kind, domain="law", request=request, who="ann", why="")
            job = store.registry.jobs.add(new)
            store.registry.jobs.end(job.id, state, error="no" if state == "failed" else None)

    def told():
        return [box.value for box in run_page("overview", folder).warning if "job" in box.value]

    ended("erase", "failed", documents=["e" * 64])
    ended("ingest", "done", corpus={})
    ended("erase", "done", documents=["f" * 64])
    (line,) = told()
    assert "The last job (erase of law) failed: no." in line.replace("\\", "")
    ended("erase", "done", documents=["e" * 64])
    assert told() == []


def test_what_a_job_learned_and_did_not_measure_is_told_until_it_is_measured(run_page, folder):
    with open_store(folder) as store:
        new = NewJob(kind="ingest", domain="law", request={"corpus": {}}, who="ann", why="")
        job = store.registry.jobs.add(new)
        made = store.registry.live().id
        store.registry.jobs.end(job.id, "failed", error="the disk is full", snapshot_id=made)
    at = run_page("overview", folder)
    (told,) = [box.value.replace("\\", "") for box in at.warning if "job" in box.value]
    assert "learned in snapshot 4, but did not measure it. The disk is full." in told
    assert "Start it again" not in told
    evaluated(folder)
    assert not [box for box in run_page("overview", folder).warning if "job" in box.value]


def test_a_full_check_of_a_whole_store_says_so(run_page, folder):
    at = run_page("overview", folder)
    next(button for button in at.button if button.label == "Run the full check").click().run()
    assert not at.exception
    assert "leftovers" not in texts(at)
    assert "every object was read" in texts(at) or "index" in texts(at)


def test_a_large_store(run_page, large_folder):
    at = run_page("overview", large_folder)
    assert not at.exception
    assert not at.error
    assert len(at.metric) == 4
    assert len(at.dataframe[0].value) == 50


# --- figures, troubles, frames, charts -----------------------------------------------------------


def test_the_figures_are_what_their_formulas_say(evaluations):
    newest = evaluations[-1].report
    assert worst_added(newest) == 0.01
    assert figures.mean_gain(newest) == pytest.approx(((4 - 3) + (3 - 2.7)) / 2)
    assert figures.mean_gain_share(newest) == pytest.approx((1 / 4 + 0.3 / 3) / 2)
    assert figures.recall(newest) == pytest.approx(0.9)
    assert figures.recall(newest, "reworded") == pytest.approx(0.3)
    gain = figures.headline(evaluations)[2]
    assert gain.past == (pytest.approx(0.5), pytest.approx(0.65))


def test_a_figures_line_is_told_in_words_and_drawn_from_the_first_to_the_last(
    run_page, folder, evaluations
):
    at = run_page("overview", folder)
    told = [chart.proto.alt for chart in at.get("vega_lite_chart")]
    assert "Mean gain over 2 evaluations: first 0.5, now 0.65" in told[2]
    assert len(told) == 5, "a line for each figure, and the chart of losses"
    drawn = charts.spark(figures.headline(evaluations)[2].past).to_dict()
    (values,) = drawn["datasets"].values()
    assert [point["value"] for point in values] == pytest.approx([0.5, 0.65])


def test_what_was_not_measured_is_no_zero(evaluations):
    without = copy.deepcopy(evaluations[-1].report)
    without["recall"] = []
    found = figures.headline([Evaluation(evaluations[-1].snapshot, "", without)])
    assert (found[3].shown, found[3].unit) == ("–", "not measured")
    assert found[3].past == ()


def test_a_store_in_which_names_count_tells_the_wider_bound_too(evaluations):
    assert "names one domain" not in figures.headline(evaluations)[0].caption
    named = evaluations[-1].report | {"name_odds": 0.1, "named_bound_nats": 0.1155}
    figure = figures.headline([Evaluation(evaluations[-1].snapshot, "", named)])[0]
    assert "names one domain and what follows it: 0.1155 together." in figure.caption


@pytest.mark.parametrize(
    ("value", "shown", "told"),
    [
        (-0.25, "-0.2500", "got worse"),
        (0.25, "+0.2500", "got better"),
        (-9.8e-7, "0.0000", "as good as when they were learned"),
        (0.0, "0.0000", "as good as when they were learned"),
    ],
)
def test_the_sign_of_forgetting_is_told_in_words(evaluations, value, shown, told):
    changed = copy.deepcopy(evaluations[-1].report)
    changed["metrics"]["bwt"] = value
    figure = figures.headline([Evaluation(evaluations[-1].snapshot, "", changed)])[1]
    assert figure.shown == shown
    assert told in figure.caption


def test_every_headline_figure_is_in_the_docs_with_the_same_formula(evaluations):
    page = METRICS.read_text(encoding="utf-8")
    for figure in figures.headline(evaluations):
        section = page.split(f"### {figure.section}\n")[1].split("\n##")[0]
        assert f"$${figure.formula}$$" in section
        assert "Unit:" in section
        assert "Computed by" in section


def test_the_docs_name_every_figure_of_a_report_and_functions_that_exist():
    page = METRICS.read_text(encoding="utf-8")
    for name in ("acc", "learning_accuracy", "bwt", "fwt", "forgetting", "retention", "kept"):
        assert f"| `{name}` |" in page
    named = re.findall(r"`((?:peer_cl|pipelines|app)\.[a-z_.]+)\.([a-z_]+)`", page)
    assert len(named) > 5
    for module, function in named:
        assert hasattr(importlib.import_module(module), function), f"{module}.{function}"


def test_a_broken_bound_is_an_error(evaluations):
    broken = copy.deepcopy(evaluations[-1].report)
    broken["background"][0]["max_added_nats"] = 0.5
    last = Evaluation(evaluations[-1].snapshot, evaluations[-1].created_at, broken)
    found = troubles.of_evaluation(last.snapshot, [last])
    assert [item.severity for item in found] == ["error"]
    assert "films lost 0.5000 nats, more than the bound of 0.0202" in found[0].what


def test_unmeasured_domains_are_a_note_and_the_worst_comes_first(evaluations):
    last = copy.deepcopy(evaluations[-1])
    last.report["unmeasured"] = ["law", "gone"]
    found = troubles.of_evaluation(last.snapshot, [last])
    assert [item.severity for item in found] == ["note"]
    assert "measured on law:" in found[0].what
    worse = troubles.Trouble("error", "a", "b")
    assert troubles.sort_troubles([*found, worse])[0] == worse


def test_a_sparkline_begins_with_the_base(folder, evaluations):
    with open_store(folder) as store:
        table = frames.live_domains(store.registry.domains(), evaluations).set_index("domain")
    assert table.loc["law", "left"] == pytest.approx([1, 3.2 / 4, 3 / 4])
    assert table.loc["medicine", "left"] == pytest.approx([1, 2.8 / 3, 2.7 / 3])


def test_a_sparkline_does_not_rise_where_a_domain_is_measured_on_harder_documents(
    run_page, folder, evaluations
):
    grown = copy.deepcopy(evaluations[-1].report)
    grown["mixture"][0] |= {"base_loss_nats": 8.0, "loss_nats": 5.6}
    with open_store(folder) as store:
        store.registry.put_evaluation(store.registry.live().id, grown)
    table = run_page("overview", folder).dataframe[0]
    shares = table.value.set_index("domain").loc["domains?domain=law", "left"]
    assert shares == pytest.approx([1, 3.2 / 4, 5.6 / 8])
    assert "share of the base's loss on the same documents" in table.proto.columns


def test_of_a_base_that_loses_nothing_no_share_is_taken(folder, evaluations):
    perfect = copy.deepcopy(evaluations[-1])
    perfect.report["mixture"][0] |= {"base_loss_nats": 0.0, "loss_nats": 0.1}
    with open_store(folder) as store:
        table = frames.live_domains(store.registry.domains(), [perfect]).set_index("domain")
    assert table.loc["law", "left"] == []


def test_without_evaluations_the_table_has_gaps_and_no_chart(folder):
    with open_store(folder) as store:
        table = frames.live_domains(store.registry.domains(), ())
    assert table["loss"].isna().all()
    assert table["left"].tolist() == [[], []]


def test_the_chart_has_units_and_the_domains_colours(folder, evaluations):
    with open_store(folder) as store:
        table = frames.live_domains(store.registry.domains(), evaluations)
    chart = charts.losses(table, {"law": "#111111", "medicine": "#222222"}).to_dict()
    text = str(chart)
    assert "nats a token" in text
    assert chart["layer"][0]["encoding"]["color"]["scale"]["range"] == ["#111111", "#222222"]


def test_what_the_full_check_finds_is_told_first_and_nothing_is_called_right(run_page, folder):
    evaluated(folder)
    path = next(path for path in folder.glob("objects/*/*") if path.stat().st_size)
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    at = run_page("overview", folder)
    assert "Nothing is wrong" in at.success[0].value, "a quick look takes sizes alone"
    next(button for button in at.button if button.label == "Run the full check").click().run()
    assert not at.exception
    assert not at.success
    assert "is damaged" in texts(at)
    assert at.error


def test_facts_that_were_not_asked_are_not_said_to_be_none(evaluations):
    last = copy.deepcopy(evaluations[-1])
    last.report.update(recall=[], with_recall=False)
    assert figures._recall(last.report, ()).caption == "This evaluation did not ask the facts."
    told = [one.what for one in troubles.of_evaluation(last.snapshot, [last])]
    assert "The newest evaluation did not ask the facts: their recall is not known." in told
    last.report.update(with_recall=True)
    assert figures._recall(last.report, ()).caption.startswith("No facts were taught")
    assert not [one for one in troubles.of_evaluation(last.snapshot, [last]) if "facts" in one.what]
    last.report.update(too_long_questions={"law": 2, "medicine": 1})
    told = figures._recall(last.report, ()).caption
    assert told.startswith("No fact could be asked as it was taught.")
    assert "not asked, being longer than the base reads: 3." in told
