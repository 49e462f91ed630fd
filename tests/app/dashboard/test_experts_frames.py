"""From the use of rows to tables, and from tables to charts."""

import numpy as np
import pytest

from app.dashboard.charts import experts as charts
from app.dashboard.frames import experts as frames
from pipelines.layer_use import layer_use, own_uses
from pipelines.row_tokens import RowToken
from stores import ExpertUse, HeldBy, Segment
from stores.queries import HeldDocument

SEGMENT = Segment(
    id="a" * 32,
    domain="law",
    label="v1",
    ordinal=1,
    parent_id=None,
    run_id="b" * 32,
    kind="rows",
    pool_object="",
    use_object=None,
    signature_object="",
    host_layers=(3, 9),
    num_experts=32,
    size_bytes=1,
    num_tokens=1,
    created_at="",
    is_purged=False,
)
USES = [
    ExpertUse(SEGMENT.id, 3, 6, 3.0, 4, 2.0),
    ExpertUse(SEGMENT.id, 3, 1, 1.0, 1, 1.0),
    ExpertUse(SEGMENT.id, 9, 0, 5.0, 2, 2.0),
    ExpertUse("c" * 32, 3, 0, 5.0, 2, 2.0),
]


@pytest.fixture
def rows():
    return frames.rows_frame(own_uses(USES, SEGMENT, 3), SEGMENT)


def test_every_row_is_there_at_its_two_sub_keys(rows):
    assert len(rows) == 16
    assert (4 * rows["i"] + rows["j"]).tolist() == rows["row"].tolist()
    assert rows["share"].sum() == pytest.approx(1.0)
    six = rows.set_index("row").loc[6]
    assert (six["i"], six["j"], six["weight"], six["share"]) == (1, 2, 3.0, 0.75)
    assert (six["documents"], six["effective"]) == (4, 2.0)
    assert (rows["weight"] > 0).sum() == 2


def test_a_layer_that_never_fired_has_dead_rows_alone():
    rows = frames.rows_frame([], SEGMENT)
    assert rows["share"].tolist() == [0.0] * 16
    own = layer_use(SEGMENT, 3, [], 7)
    assert (own.num_dead, own.usage, own.unevenness) == (16, 0.0, 0.0)
    charts.grid_chart(rows).to_dict()
    assert frames.sorted_frame({3: rows}).empty


def test_a_layer_s_figures_are_of_all_its_rows():
    own = layer_use(SEGMENT, 3, own_uses(USES, SEGMENT, 3), 7)
    assert (own.num_rows, own.num_dead, own.num_documents) == (16, 14, 7)
    assert own.usage == 2 / 16
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert own.unevenness == pytest.approx(np.log(16) - entropy)
    assert own.effective_documents == pytest.approx(0.75 * 2.0 + 0.25 * 1.0)
    frame = frames.layers_frame([own])
    assert frame["num_dead"].tolist() == [14]


def test_rows_are_sorted_layer_by_layer(rows):
    other = frames.rows_frame(own_uses(USES, SEGMENT, 9), SEGMENT)
    frame = frames.sorted_frame({3: rows, 9: other})
    assert frame.query("layer == 3")["share"].tolist() == [0.75, 0.25]
    assert frame.query("layer == 9")["share"].tolist() == [1.0]
    drawn = charts.sorted_chart(frame, 16, 3).to_dict()
    assert drawn["layer"][1]["encoding"]["y"]["scale"] == {"type": "log"}
    *_, others, own = drawn["layer"]
    assert {row["layer"] for row in drawn["datasets"][own["data"]["name"]]} == {3}, "on top"
    assert {row["layer"] for row in drawn["datasets"][others["data"]["name"]]} == {9}
    assert others["mark"]["opacity"] < 0.5
    assert [{"share": 1 / 16, "what": "even use"}] in drawn["datasets"].values()


def test_effective_documents_are_counted_over_rows_that_fired(rows):
    frame = frames.spread_frame(rows)
    assert frame["rows"].sum() == 2
    assert (frame["low"].min(), frame["high"].max()) == (1.0, 2.0)
    assert charts.spread_chart(frame).to_dict()["encoding"]["x"]["bin"] == "binned"


def test_the_grid_tells_dead_rows_from_quiet_ones(rows):
    drawn = charts.grid_chart(rows).to_dict()
    colour = drawn["encoding"]["color"]
    assert colour["value"] == charts.DEAD
    assert colour["condition"]["scale"]["type"] == "log"
    assert colour["condition"]["scale"]["domain"] == [1.0, 3.0]
    assert {param["name"] for param in drawn["params"]} == {charts.ROW}


def test_the_row_that_is_open_has_a_frame_however_it_was_chosen(rows):
    drawn = charts.grid_chart(rows, 6).to_dict()
    stroke = drawn["encoding"]["stroke"]["condition"]
    assert stroke == {"test": "(datum.row === 6)", "value": charts.OUTLINE}
    none = charts.grid_chart(rows).to_dict()["encoding"]["stroke"]["condition"]["test"]
    assert none == "(datum.row === -1)", "no row has that number"


def test_a_row_with_many_documents_shows_the_first(rows):
    documents = tuple(HeldDocument(f"{n:064}", f"*{n}*", "law.txt", "text") for n in range(5))
    held = HeldBy(USES[0], documents, (0.4, 0.3, 0.1, 0.1, 0.1))
    frame = frames.held_frame(held, 2)
    assert frame["title"].tolist() == ["*0*", "*1*"]
    assert frame["share"].tolist() == [0.4, 0.3]


def test_tokens_that_use_a_row_stand_in_their_context():
    words = ["<s>", "The", " court", " held"]
    weights = [0.0, 0.0, 0.5, 0.25]
    tokens = [
        RowToken(word, after, weight, 2 * weight)
        for word, after, weight in zip(words, [*words[1:], ""], weights, strict=True)
    ]
    frame = frames.tokens_frame(tokens)
    assert frame["token"].tolist() == ["' court'", "' held'"]
    assert frame["following"].tolist() == ["' held'", ""]
    assert frame["before"].tolist() == ["<s>The", "<s>The court"]
    drawn = charts.tokens_chart(frame, 4, "#111111").to_dict()
    assert drawn["encoding"]["x"]["scale"]["domain"] == [0, 4]
    assert frames.tokens_frame([]).empty
