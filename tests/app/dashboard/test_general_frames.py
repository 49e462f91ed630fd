"""General ability from a report to tables and a chart."""

import json
import math

import pytest

from app.dashboard.charts.general import general_chart
from app.dashboard.frames import general as frames

CHOICES = {
    "task": "PIQA",
    "kind": "choice",
    "items": 200,
    "base_accuracy": 0.5,
    "accuracy": 0.51,
    "changed_items": 4,
    "gained": 3,
    "lost": 1,
    "difference_interval": [-0.0123, 0.0345],
    "asked_items": 9,
    "base_loss_nats": None,
    "loss_nats": None,
    "max_added_nats": None,
}
TEXTS = CHOICES | {
    "task": "letters",
    "kind": "text",
    "base_accuracy": None,
    "accuracy": None,
    "base_loss_nats": 3.0,
    "loss_nats": 3.01,
    "max_added_nats": 0.0042,
}
ROWS = frames.read_general([CHOICES, TEXTS])


def test_accuracies_and_losses_have_tables_of_their_own():
    (row,) = frames.general_frame(ROWS, is_text=False).to_dict("records")
    assert (row["task"], row["before"], row["after"]) == ("PIQA", 0.5, 0.51)
    assert (row["changed_items"], row["gained"], row["lost"], row["asked_items"]) == (4, 3, 1, 9)
    assert row["interval"] == "-1.2 to +3.5 points"
    assert "max_added_nats" not in row
    (row,) = frames.general_frame(ROWS, is_text=True).to_dict("records")
    assert (row["before"], row["after"], row["max_added_nats"]) == (3.0, 3.01, 0.0042)
    assert row["interval"] == "-0.0123 to +0.0345 nats"
    assert frames.general_frame(ROWS[:1], is_text=True).empty


def test_what_is_no_row_is_refused():
    for damaged in (
        [{}],
        ["words"],
        [CHOICES | {"accuracy": None}],
        [CHOICES | {"accuracy": math.nan}],
        [CHOICES | {"difference_interval": [0.0]}],
        [CHOICES | {"gained": "many"}],
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            frames.read_general(damaged)
    assert frames.read_general(None) == []


def test_each_set_has_two_marks_and_an_axis_with_a_unit():
    for is_text, unit in ((False, "share of items"), (True, "nats a token")):
        paired = frames.paired_frame(frames.general_frame(ROWS, is_text=is_text))
        assert paired["who"].tolist() == [frames.BASE, frames.STORE]
        drawn = general_chart(paired, is_text=is_text).to_dict()
        json.dumps(drawn, allow_nan=False)
        assert all(unit in layer["encoding"]["x"]["title"] for layer in drawn["layer"])
