"""Tables and charts of a trace, from numbers that a reader can check."""

import dataclasses
import math

import pytest

from app.dashboard.charts import trace as charts
from app.dashboard.charts.scales import INK
from app.dashboard.frames import trace as frames
from app.dashboard.frames.standings import standings, standings_in_words
from pipelines.holders import RankedDocument
from pipelines.searching import Found
from pipelines.tracing import NextToken, Trace, TracedRow, TracedToken
from stores.queries import ExpertUse, HeldBy, HeldDocument

COLOURS = {"base": "#888888", "law": "#4477aa", "pool: base": "#ee6677"}


def token(text, base=0.25, **weights):
    return TracedToken(text, base, weights, -2.0, -1.0, dict.fromkeys(weights, 1.0), {})


def test_lines_break_before_words_keep_their_order_and_begin_with_no_blank():
    words = [token(" court"), token(" app"), token("eal"), token(" of"), token(" it")]
    frame = frames.laid_out(words, num_columns=9)
    assert list(frame["shown"]) == ["court", "app", "eal", "of", "it"]
    assert list(frame["line"]) == [0, 1, 1, 1, 2]
    assert list(frame["start"]) == [0, 0, 3, 6, 0]
    assert list(frame["end"]) == [5, 3, 6, 9, 2]
    assert list(frame["left"]) == [0, 0, 3, 7, 0]


def test_a_line_end_in_the_text_ends_the_line():
    frame = frames.laid_out([token("a"), token("\n"), token("b")])
    assert list(frame["line"]) == [0, 0, 1]
    assert list(frame["shown"]) == ["a", "⏎", "b"]


def test_a_word_longer_than_a_line_is_broken_anyway():
    frame = frames.laid_out([token("x" * 6), token("y" * 6), token("z" * 6)], num_columns=10)
    assert list(frame["line"]) == [0, 1, 2]


def test_who_has_most_weight_speaks():
    frame = frames.laid_out([token("a", 0.6, law=0.4), token("b", 0.1, law=0.9)])
    assert list(frame["speaker"]) == ["base", "law"]
    assert list(frame["weight"]) == [0.6, 0.9]


def test_a_domain_called_base_is_told_from_the_base():
    frame = frames.weights_over_tokens([token("a", 0.3, base_=0.7)])
    assert list(frame["who"]) == ["base", "base_"]
    assert frames.weights_in_words(0.3, {"base": 0.7}) == "pool: base 70%, base 30%"


def test_losses_are_nats_a_token():
    trace = Trace("ab", 1, [], 1.0, {}, {}, [token("a"), token("b")], {}, [], [], [])
    assert frames.losses(trace) == (2.0, 1.0)


def test_documents_of_rows_are_ranked_by_their_share_of_them():
    one, two = (HeldDocument(key * 64, f"about {key}", "notes", "text") for key in "ab")
    use = ExpertUse("s", 0, 1, 1.0, 2, 2.0)
    held = {"law": [HeldBy(use, (one, two), (0.75, 0.25)), HeldBy(use, (two,), (1.0,))]}
    frame = frames.documents_of_rows(held, {"law": 0.9}, {"s": 4})
    assert list(frame["document"]) == ["about b", "about a"]
    assert list(frame["times even"]) == [4 * 0.625, 4 * 0.375]


def test_documents_that_use_a_row_alike_have_an_even_share_whatever_their_segment():
    documents = [HeldDocument(key * 64, f"about {key}", "notes", "text") for key in "abcdef"]
    small, large = (
        HeldBy(ExpertUse(segment, 0, 1, 1.0, num, float(num)), tuple(held), (1 / num,) * num)
        for segment, num, held in (("s", 2, documents[:2]), ("l", 4, documents[2:]))
    )
    frame = frames.documents_of_rows({"law": [small, large]}, {"law": 1.0}, {"s": 2, "l": 4})
    assert list(frame["times even"]) == [0.5] * 6, "each is held by one of the two rows"


def test_likeness_begins_at_the_median_of_the_domain():
    one = RankedDocument("law", "d" * 64, "About", "notes", "text", 0.9, 0.8)
    below = dataclasses.replace(one, score=0.7)
    alone = dataclasses.replace(one, score=1.0, median=1.0)
    frame = frames.ranked_documents([one, below, alone])
    assert list(frame["likeness"]) == [pytest.approx(0.5), 0.0, 0.0]
    assert list(frame["cosine"]) == [0.9, 0.7, 1.0]


def test_rows_of_a_pool_with_more_weight_count_more():
    one, two = (HeldDocument(key * 64, f"about {key}", "notes", "text") for key in "ab")
    use = ExpertUse("s", 0, 1, 1.0, 1, 1.0)
    held = {"law": [HeldBy(use, (one,), (1.0,))], "music": [HeldBy(use, (two,), (0.5,))]}
    for weights, first in (
        ({"law": 0.8, "music": 0.1}, "law"),
        ({"law": 0.1, "music": 0.8}, "music"),
    ):
        assert frames.documents_of_rows(held, weights, {"s": 2})["domain"][0] == first


def test_rows_show_how_loudly_they_speak_and_how_much_they_are_asked():
    row = TracedRow("law", "seg", 3, 12, strength=2.0, weight=0.5)
    (shown,) = frames.traced_rows([row], {"seg": "v2"}).to_dict("records")
    assert (shown["expert"], shown["strength"], shown["router weight"]) == ("3:12", 2.0, 0.5)


def test_links_carry_any_name():
    row = TracedRow("a&b c", "seg", 3, 12, 1.0, 0.5)
    (link,) = frames.traced_rows([row], {"seg": "v2"})["open"]
    assert link == "experts?domain=a%26b+c&version=v2&layer=3&row=12"
    found = RankedDocument("law", "d" * 64, "About", "notes", "text", 0.5, 0.25)
    (link,) = frames.ranked_documents([found])["open"]
    assert link == f"document?id={'d' * 64}"


def test_the_text_s_chart_has_a_colour_a_speaker_and_a_line_a_line():
    tokens = [token(" court", 0.1, law=0.9)] * 30
    frame = frames.laid_out(tokens, num_columns=40)
    spec = charts.text_in_colours(frame, COLOURS, ink="#000000", num_columns=40).to_dict()
    assert spec["height"] == charts.LINE_HEIGHT * (frame["line"].max() + 1)
    scale = spec["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["law"], "range": ["#4477aa"]}


def test_weights_are_stacked_to_one_with_the_base_below():
    frame = frames.weights_over_tokens([token("a", 0.3, law=0.7), token("b", 0.6, law=0.4)])
    spec = charts.weights_over_tokens(frame, COLOURS).to_dict()
    (rows,) = spec["datasets"].values()
    assert [(row["who"], round(row["bottom"], 9), round(row["top"], 9)) for row in rows] == [
        ("base", 0.0, 0.3),
        ("law", 0.3, 1.0),
        ("base", 0.0, 0.6),
        ("law", 0.6, 1.0),
    ]
    assert spec["encoding"]["y"]["scale"]["domain"] == [0, 1]


FOUND = Found(
    text="a",
    snapshot=1,
    rows=[],
    documents=[],
    log_odds={"law": 3.0, "music": 2.5, "film": 0.5, "food": -1.0, "sport": -math.inf},
    needed={"law": 1.0, "music": 2.504, "film": 2.75, "food": None, "sport": None},
    asked=["law"],
    named=[],
)


def test_what_a_domain_needs_to_be_asked_is_said():
    frame = standings(FOUND)
    assert list(frame["domain"]) == ["law", "music", "film", "food", "sport"]
    assert list(frame["is_asked"]) == [True, False, False, False, False]
    assert list(frame["said"]) == [
        "asked",
        "not asked, needs +0.004",
        "not asked, needs +2.2",
        "not asked: too short, or too far",
        "not asked: it has no signature",
    ]
    assert standings_in_words(frame)[::4] == [
        "law +3.00, asked",
        "sport not asked: it has no signature",
    ]
    by_name = standings(FOUND, ["food"])
    assert list(by_name["is_asked"]) == [True, False, False, True, False]
    assert by_name["said"][3] == "asked by name"
    named = dataclasses.replace(FOUND, named=["film"])
    assert standings(named)["said"][2].startswith("named: ")


def test_a_standing_has_its_bar_zero_and_a_mark_where_the_domain_is_asked():
    frame = standings(FOUND)
    colours = dict.fromkeys(frame["domain"], "#4477aa")
    spec = charts.standings(frame, colours).to_dict()
    bars, zero, marks = spec["layer"]
    assert (bars["mark"]["type"], zero["mark"]["type"], marks["mark"]["type"]) == (
        "bar",
        "rule",
        "tick",
    )
    assert zero["encoding"]["x"]["datum"] == 0
    assert marks["encoding"]["x"]["field"] == "needed"
    assert len({layer["encoding"]["x"]["title"] for layer in spec["layer"]}) == 1
    assert bars["encoding"]["y"]["axis"]["labelExpr"] == r"split(datum.value, '\n')"
    (rows,) = spec["datasets"].values()
    assert rows[2]["label"] == "film\nnot asked, needs +2.2"
    assert [row["needed"] for row in rows] == [1.0, 2.504, 2.75, None, None]
    assert rows[4]["log_odds"] is None


def test_both_next_charts_have_one_scale():
    frame = frames.next_tokens([NextToken(" a", 0.4)], [NextToken(" b", 0.8)])
    words = charts.next_tokens(frame, frames.BASE, "#4477aa", 0.8).to_dict()["layer"][1]
    assert words["mark"]["color"] == INK
    axes = [
        charts.next_tokens(frame, who, "#4477aa", 0.8).to_dict()["layer"][0]["encoding"]["x"]
        for who in ("base", "with pools")
    ]
    assert axes[0] == axes[1]
    assert axes[0]["title"] == "probability of the next token"
