"""From a report to tables, and from tables to charts."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.charts import held_out as document_charts
from app.dashboard.charts import retention as charts
from app.dashboard.charts.scales import BETTER, FAINT, INK, STRONG, WORSE
from app.dashboard.frames import held_out as document_frames
from app.dashboard.frames import retention as frames
from app.dashboard.frames.retention import ABSOLUTE, FORGOTTEN, MEASURES, MODES, TO_BASE, TO_BEFORE
from app.output import cell
from peer_cl import metrics
from peer_cl.errors import DamageError
from stores.queries import HeldOutScores

LOSSES = [[4.0, 3.0], [3.0, 3.0], [3.5, 1.5]]
"""The first domain learns 1 nat and forgets half of it when the second comes."""


def told(losses=LOSSES, **changes):
    num = len(losses[0])
    names = ["law", "medicine", "minerals", "trade"][:num]
    scores = [[-loss for loss in row] for row in losses]
    return {
        "snapshot": 7,
        "domains": names,
        "unmeasured": [],
        "matrix": {"loss_nats": losses},
        "metrics": {
            "acc": metrics.average_score(scores),
            "learning_accuracy": metrics.learning_accuracy(scores),
            "bwt": metrics.backward_transfer(scores),
            "fwt": metrics.forward_transfer(scores),
            "forgetting": metrics.forgetting(scores),
            "retention": metrics.retention(scores),
        },
        "bound_nats": 0.0202,
        "background": [
            {
                "source": "films",
                "kind": "prose",
                "documents": 8,
                "identical": 0.5,
                "base_loss_nats": 3.0,
                "loss_nats": 3.125,
                "max_added_nats": 0.01,
            }
        ],
        "mixture": [{"domain": name, "reduction": 0.25} for name in names],
        **changes,
    }


@pytest.fixture
def report():
    return frames.read_report(7, told())


def values(report, measure, mode):
    frame = frames.matrix_frame(report, measure, mode)
    return {(row.step, row.domain): row.value for row in frame.itertuples()}


def test_a_cell_is_compared_with_what_the_mode_says(report):
    assert values(report, "loss", ABSOLUTE)[2, "law"] == 3.5
    assert values(report, "loss", TO_BASE)[2, "law"] == -0.5
    before = values(report, "loss", TO_BEFORE)
    assert (before[1, "law"], before[2, "law"]) == (-1.0, 0.5)
    assert {step for step, _ in before} == {1, 2}  # nothing stands before the base
    forgotten = values(report, "loss", FORGOTTEN)
    assert forgotten == {(1, "law"): 0.0, (2, "law"): 0.5, (2, "medicine"): 0.0}


def test_measures_are_what_they_are_called(report):
    assert values(report, "reduction", ABSOLUTE)[1, "law"] == pytest.approx(0.25)
    assert values(report, "perplexity", ABSOLUTE)[2, "medicine"] == pytest.approx(np.exp(1.5))


@pytest.mark.parametrize("measure", MEASURES)
def test_forgetting_is_positive_whatever_the_measure(report, measure):
    assert values(report, measure, FORGOTTEN)[2, "law"] > 0


@given(st.integers(1, 4), st.data())
def test_what_is_forgotten_and_kept_agrees_with_the_metrics(num, data):
    loss = st.floats(0.5, 8.0)
    losses = [[data.draw(loss) for _ in range(num)] for _ in range(num + 1)]
    report = frames.read_report(7, told(losses))
    exchange = frames.exchange_frame(report)
    earlier = exchange["forgotten_nats"][:-1].sum() / max(1, num - 1)
    assert earlier == pytest.approx(-report.metrics["bwt"], abs=1e-9)
    kept = frames.curves_frame(report).query("step == @num").set_index("domain")["kept"]
    gained = exchange.set_index("domain")["gained_nats"]
    assert kept.isna().tolist() == (gained <= 0).tolist(), "there is no share of a loss"
    if (gained > 1e-6).all():
        whole = (kept * gained).sum() / gained.sum()
        assert whole == pytest.approx(report.metrics["retention"], rel=1e-6)


def test_the_newest_domain_is_compared_with_how_it_came_where_it_is_off_now():
    matrix = {
        "loss_nats": [[4.0, 3.0], [3.0, 3.0], [3.0, 3.0]],
        "coming_nats": [3.25, 1.5],
        "before_nats": [[4.0, 3.0], [3.1, 2.9]],
    }
    report = frames.read_report(7, told(matrix["loss_nats"], matrix=matrix))
    assert frames.exchange_frame(report)["gained_nats"].tolist() == [1.0, 1.5]
    assert values(report, "loss", FORGOTTEN)[2, "medicine"] == 1.5
    came = values(report, "loss", TO_BEFORE)
    assert came[2, "law"] == pytest.approx(0.15)
    assert came[2, "medicine"] == pytest.approx(-1.4)
    assert values(report, "reduction", TO_BEFORE)[2, "medicine"] == pytest.approx(1.4 / 3)
    kept = frames.curves_frame(report).set_index(["step", "domain"])["kept"]
    assert (kept[2, "law"], kept[2, "medicine"]) == (1.0, 0.0)


def test_nothing_is_kept_before_it_is_learned(report):
    kept = frames.curves_frame(report).set_index(["step", "domain"])["kept"]
    assert np.isnan(kept[0, "law"])
    assert np.isnan(kept[1, "medicine"])
    assert (kept[1, "law"], kept[2, "law"]) == (1.0, 0.5)


def test_a_base_that_loses_nothing_is_no_division_by_zero():
    report = frames.read_report(7, told([[0.0], [0.0]]))
    assert values(report, "reduction", ABSOLUTE) == {(0, "law"): 0.0, (1, "law"): 0.0}


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        None,
        {},
        {"domains": ["law"]},
        told(domains=["law"]),
        told(domains=[]),
        told([[float("nan")], [1.0]]),
        told([[1.0], [-1.0]]),
        told(matrix={"loss_nats": [[1.0, 2.0], [1.0]]}),
        told(matrix={"loss_nats": [["a", "b"]]}),
        told(matrix={"loss_nats": LOSSES, "coming_nats": [1.0]}),
        told(matrix={"loss_nats": LOSSES, "before_nats": [[1.0, 2.0]]}),
        told(matrix={"loss_nats": LOSSES, "before_nats": [[1.0, -2.0], [1.0, 1.0]]}),
        told(metrics={}),
        told(bound_nats=None),
        told(background=[{"source": "films"}]),
        told(background=3),
        told(general=3),
        told(general="words"),
        told(general=[{"task": "PIQA"}]),
    ],
)
def test_a_damaged_report_is_told_in_one_line(damaged):
    with pytest.raises(DamageError, match="evaluation of snapshot 7 is damaged") as caught:
        frames.read_report(7, damaged)
    assert str(caught.value).endswith("; measure again")
    assert "\n" not in str(caught.value)


def test_the_export_has_every_cell_and_comparison(report):
    frame = frames.export_frame(report)
    assert len(frame) == 6
    assert {"snapshot", "after", "domain", "loss_nats", "perplexity_forgot", "kept"} <= set(frame)
    row = frame.set_index(["step", "domain"]).loc[(2, "law")]
    assert (row["loss_nats"], row["loss_nats_forgot"], row["kept"]) == (3.5, 0.5, 0.5)


def test_foreign_text_says_what_changed(report):
    (row,) = frames.background_frame(report).itertuples()
    assert (row.change_nats, row.identical) == (0.125, 0.5)


def test_metrics_come_from_the_report_with_unit_and_sense(report):
    frame = frames.metrics_frame(report).set_index("metric")
    assert frame.loc["Forgetting", "value"] == report.metrics["forgetting"] == 0.5
    assert frame.loc["Forgetting", "sense"] == "lower is better"
    assert frame.loc["BWT, backward transfer", "unit"] == "nats a token"
    assert list(frame.columns)[:2] == ["value", "sense"], "a small window cuts the rest"


def test_where_nothing_was_gained_no_share_is_shown():
    report = frames.read_report(7, told([[4.0, 4.0], [4.5, 4.0], [4.9, 4.2]]))
    assert report.metrics["retention"] is None
    frame = frames.metrics_frame(report)
    shown = dict(zip(frame["metric"], frame["value"].map(cell), strict=True))
    assert (shown["Retention"], shown["BWT, backward transfer"]) == ("-", "-0.4000")


# Charts


def matrix(report, measure, mode):
    frame = frames.matrix_frame(report, measure, mode)
    chart = charts.matrix_chart(
        frame, MEASURES[measure], mode, domains=report.domains, rows=report.rows
    )
    return chart.to_dict()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("mode", MODES)
def test_the_matrix_is_drawn_for_every_measure_and_mode(report, measure, mode):
    drawn = matrix(report, measure, mode)
    tiles, figures = drawn["layer"]
    assert tiles["encoding"]["x"]["sort"] == ["law", "medicine"]
    assert tiles["encoding"]["y"]["sort"] == ["base", "after law", "after medicine"]
    assert figures["mark"]["type"] == "text"
    assert MEASURES[measure].unit in tiles["encoding"]["color"]["legend"]["title"]


@pytest.mark.parametrize(
    ("measure", "mode", "low_end"),
    [
        ("loss", TO_BASE, BETTER),
        ("reduction", TO_BASE, WORSE),
        ("loss", FORGOTTEN, BETTER),
        ("reduction", FORGOTTEN, BETTER),
    ],
)
def test_blue_is_better_whatever_the_sign(report, measure, mode, low_end):
    scale = matrix(report, measure, mode)["layer"][0]["encoding"]["color"]["scale"]
    assert scale["range"][0] == low_end
    assert scale["domain"][0] == -scale["domain"][2]


def test_the_legend_is_no_longer_than_the_chart(report):
    legend = matrix(report, "loss", ABSOLUTE)["layer"][0]["encoding"]["color"]["legend"]
    assert legend["gradientLength"] == {"expr": "min(260, width)"}


def test_blue_is_better_in_absolute_values_too(report):
    for measure, low_end, sense in (("loss", STRONG, "low"), ("reduction", FAINT, "high")):
        colour = matrix(report, measure, ABSOLUTE)["layer"][0]["encoding"]["color"]
        assert colour["scale"]["range"][0] == low_end
        assert f"({sense} = better)" in colour["legend"]["title"]


def test_harm_has_a_colour_beside_what_was_learned():
    report = frames.read_report(7, told([[4.0, 3.0], [2.8, 3.0], [2.85, 1.8]]))
    scale = matrix(report, "loss", TO_BEFORE)["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"][2] == pytest.approx(0.05)
    assert scale["clamp"], "what was learned, 1.2 nats, is just as strong"


def written_cells(report, mode):
    drawn = matrix(report, "loss", mode)
    (rows,) = drawn["datasets"].values()
    assert drawn["layer"][1]["encoding"]["text"]["field"] == "written"
    return {(row["step"], row["domain"]): row["written"] for row in rows}


def test_cells_that_did_not_change_have_neither_digits_nor_sign():
    report = frames.read_report(7, told([[4.0, 3.0], [3.0, 3.0], [2.99986, 1.5]]))
    before = written_cells(report, TO_BEFORE)
    assert (before[1, "medicine"], before[2, "law"]) == ("0", "0")
    assert before[1, "law"] == "−1.000"
    forgotten = written_cells(report, FORGOTTEN)
    assert (forgotten[2, "law"], forgotten[1, "law"]) == ("−0.0001", "0"), "a digit more"
    assert written_cells(report, ABSOLUTE)[0, "law"] == "4.000"


def test_noise_is_not_drawn_as_harm():
    report = frames.read_report(7, told([[4.0, 3.0], [3.0, 3.0], [3.000001, 1.5]]))
    scale = matrix(report, "loss", FORGOTTEN)["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"][2] == MEASURES["loss"].floor


def test_a_large_matrix_is_tiles_alone(report):
    many = [f"domain-{number}" for number in range(50)]
    chart = charts.matrix_chart(
        frames.matrix_frame(report, "loss", ABSOLUTE),
        MEASURES["loss"],
        ABSOLUTE,
        domains=many,
        rows=["base", *many],
    ).to_dict()
    assert "layer" not in chart
    assert chart["height"] <= 900


def test_curves_keep_a_domain_s_colour_and_show_the_base(report):
    colours = {"law": "#111111", "medicine": "#222222"}
    frame = frames.curves_frame(report)
    for field in ("loss_nats", "kept"):
        drawn = charts.curves_chart(frame, field, colours, rows=report.rows).to_dict()
        assert len(drawn["layer"]) == 2
        scale = drawn["layer"][-1]["encoding"]["color"]["scale"]
        assert scale == {"domain": ["law", "medicine"], "range": ["#111111", "#222222"]}
    alone = charts.curves_chart(
        frame, "loss_nats", colours, rows=report.rows, domain="law"
    ).to_dict()
    assert alone["layer"][0]["encoding"]["y"]["field"] == "base_nats"
    assert "condition" in alone["layer"][-1]["encoding"]["opacity"]


def test_many_curves_are_a_mean_a_range_and_a_few_names(report):
    assert frames.forgot_most(report, 1) == ["law"]
    frame = frames.curves_frame(report)
    for field, reference in (("loss_nats", [3.5] * 3), ("kept", [1.0, 1.0])):
        drawn = charts.spread_chart(
            frame, field, {"law": "#111111"}, rows=report.rows, named=["law"]
        ).to_dict()
        area, dashed, mean, lines = drawn["layer"]
        assert [area["mark"]["type"], lines["mark"]["type"]] == ["area", "line"]
        assert dashed["mark"]["strokeDash"], "what the heading promises is there"
        assert mean["encoding"]["y"]["scale"] == {"zero": False}, "what differs fills the chart"
        assert lines["encoding"]["color"]["scale"] == {"domain": ["law"], "range": ["#111111"]}
        spread = drawn["datasets"][mean["data"]["name"]]
        assert [row["reference"] for row in spread] == reference
        last = spread[-1]
        assert (last["low"], last["mean"], last["high"]) == (
            (1.5, 2.5, 3.5) if field == "loss_nats" else (0.5, 0.75, 1.0)
        )


def test_learning_against_forgetting_is_symmetric_about_nothing(report):
    drawn = charts.exchange_chart(frames.exchange_frame(report), {}, 0.02).to_dict()
    y = next(
        layer["encoding"]["y"]
        for layer in drawn["layer"]
        if layer["encoding"]["y"]["field"] == "forgotten_nats"
    )
    assert y["scale"]["domain"] == pytest.approx([-0.55, 0.55])
    assert "positive = forgot" in y["title"]


def test_names_beside_points_are_in_the_page_s_ink(report):
    frame = frames.exchange_frame(report)
    words = charts.exchange_chart(frame, {"law": "#c98b00"}, 0.02).to_dict()["layer"][-1]
    assert words["mark"]["type"] == "text"
    assert words["encoding"]["color"] == {"value": INK}


def test_the_bound_stands_beside_the_worst_documents(report):
    drawn = charts.background_chart(frames.background_frame(report), report.bound_nats).to_dict()
    assert [layer["mark"]["type"] for layer in drawn["layer"]] == ["bar", "rule"]
    assert [{"bound": 0.0202}] in drawn["datasets"].values()


# Documents


SHARE = 0.5


def scored(title, base, own):
    asked = np.array([own])
    return HeldOutScores("a" * 64, title, "law.txt", np.array(base), np.array(own), asked)


FOUND = [
    scored("learned", [-4.0, -4.0], [-2.0, -3.0]),
    scored("harmed", [-1.0, -1.0], [-1.5, -1.5]),
    scored("empty", [], []),
]


def test_documents_are_listed_by_what_they_gained_least():
    frame = document_frames.documents_frame(FOUND, SHARE)
    assert list(frame["title"]) == ["harmed", "empty", "learned"]
    learned = frame.set_index("title").loc["learned"]
    whole = -math.log((math.exp(-8) + math.exp(-5)) / 2)
    assert (learned["base_nats"], learned["alone_nats"], learned["tokens"]) == (4.0, 2.5, 2)
    assert learned["nats"] == pytest.approx(whole / 2)
    assert learned["change_nats"] == pytest.approx(whole / 2 - 4)
    assert learned["added_nats"] == pytest.approx(whole - 8)


def test_the_mixture_of_a_document_is_what_an_evaluation_makes_of_it():
    torch = pytest.importorskip("torch")
    from peer_cl.mixture import enter_at, mixture_log_probs

    rng = np.random.default_rng(0)
    base, asked = -rng.exponential(3, 40), -rng.exponential(2, (3, 40))
    item = HeldOutScores("a" * 64, "any", "law.txt", base, asked[0], asked)
    stacked = torch.tensor(np.vstack([base, asked]))[:, None]
    entries = enter_at(0.01, torch.zeros(3, 1, dtype=torch.long), 40)
    told = mixture_log_probs(stacked, torch.ones(1, 40, dtype=torch.bool), entries)[0]
    mixed = document_frames.mixture_log_probs(item, 0.01)
    np.testing.assert_allclose(mixed, told.numpy(), rtol=0, atol=1e-9)


def test_without_all_scores_there_is_no_mixture_and_the_page_still_draws():
    item = dataclasses.replace(FOUND[0], asked_log_probs=None)
    frame = document_frames.documents_frame([item], SHARE)
    assert math.isnan(frame["nats"][0])
    assert frame["alone_nats"][0] == 2.5
    assert document_charts.documents_chart(frame, "#111111").to_dict()["layer"]
    models = document_frames.tokens_frame(item, SHARE)["model"].unique()
    assert models.tolist() == ["base", "its pool alone"]


def test_a_document_has_a_row_a_token_and_model():
    frame = document_frames.tokens_frame(FOUND[0], SHARE)
    assert frame.query("model == 'base'")["nats"].tolist() == [4.0, 4.0]
    assert frame.query("model == 'its pool alone'")["nats"].tolist() == [2.0, 3.0]
    assert (frame["model"] == "with pools").sum() == 2
    drawn = document_charts.tokens_chart(frame, "#111111").to_dict()
    assert drawn["encoding"]["color"]["scale"]["range"][1] == "#111111"


def test_documents_are_drawn_against_the_base():
    drawn = document_charts.documents_chart(
        document_frames.documents_frame(FOUND, SHARE), "#111111"
    ).to_dict()
    assert len(drawn["layer"]) == 2
    assert "nats a token" in drawn["layer"][1]["encoding"]["x"]["title"]
    fields = [item["field"] for item in drawn["layer"][1]["encoding"]["tooltip"]]
    assert not {"image", "href"} & set(fields)


def test_no_spreadsheet_takes_a_title_for_a_formula():
    frame = pd.DataFrame({"title": ["=1+1", "+2", "-3", "@x", "plain"], "nats": [-1.0] * 5})
    safe = document_frames.safe_cells(frame)
    assert safe["title"].tolist() == ["'=1+1", "'+2", "'-3", "'@x", "plain"]
    assert safe["nats"].tolist() == [-1.0] * 5


def test_charts_are_json(report):
    json.dumps(matrix(report, "loss", TO_BEFORE), allow_nan=False)
