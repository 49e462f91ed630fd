"""Tables and charts of a trace, from numbers that a reader can check."""

from app.dashboard.charts import trace as charts
from app.dashboard.charts.scales import INK
from app.dashboard.frames import trace as frames
from pipelines.holders import RankedDocument
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
    trace = Trace("a", 1, ["base"], 0.3, {"base": 0.7}, {"base": 2.0}, [], {}, [], [], [])
    assert list(frames.weights_at_end(trace)["who"]) == ["base", "pool: base"]


def test_losses_are_nats_a_token():
    trace = Trace("ab", 1, [], 1.0, {}, {}, [token("a"), token("b")], {}, [], [], [])
    assert frames.losses(trace) == (2.0, 1.0)


def test_documents_of_rows_are_ranked_by_their_share_of_them():
    one, two = (HeldDocument(key * 64, f"about {key}", "notes", "text") for key in "ab")
    use = ExpertUse("s", 0, 1, 1.0, 2, 2.0)
    held = {"law": [HeldBy(use, (one, two), (0.75, 0.25)), HeldBy(use, (two,), (1.0,))]}
    frame = frames.documents_of_rows(held, {"law": 0.9})
    assert list(frame["document"]) == ["about b", "about a"]
    assert list(frame["share"]) == [0.625, 0.375]


def test_rows_of_a_pool_with_more_weight_count_more():
    one, two = (HeldDocument(key * 64, f"about {key}", "notes", "text") for key in "ab")
    use = ExpertUse("s", 0, 1, 1.0, 1, 1.0)
    held = {"law": [HeldBy(use, (one,), (1.0,))], "music": [HeldBy(use, (two,), (0.5,))]}
    for weights, first in (
        ({"law": 0.8, "music": 0.1}, "law"),
        ({"law": 0.1, "music": 0.8}, "music"),
    ):
        assert frames.documents_of_rows(held, weights)["domain"][0] == first


def test_rows_show_how_loudly_they_speak_and_how_much_they_are_asked():
    row = TracedRow("law", "seg", 3, 12, strength=2.0, weight=0.5)
    (shown,) = frames.traced_rows([row], {"seg": "v2"}).to_dict("records")
    assert (shown["expert"], shown["strength"], shown["weight"]) == ("3:12", 2.0, 0.5)


def test_links_carry_any_name():
    row = TracedRow("a&b c", "seg", 3, 12, 1.0, 0.5)
    (link,) = frames.traced_rows([row], {"seg": "v2"})["open"]
    assert link == "experts?domain=a%26b+c&version=v2&layer=3&row=12"
    found = RankedDocument("law", "d" * 64, "About", "notes", "text", 0.5)
    (link,) = frames.ranked_documents([found])["open"]
    assert link == f"domains?domain=law&part=Corpus&search={'d' * 64}"


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
