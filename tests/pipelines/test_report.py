"""The report goes through JSON unchanged, and its keys are those that users read."""

import json

import pytest

from pipelines.report import (
    BackgroundRow,
    EvaluationReport,
    Matrix,
    Metrics,
    RecallRow,
    RoutingRow,
)

REPORT = EvaluationReport(
    snapshot=3,
    domains=("law", "medicine"),
    scored_tokens=1024,
    unmeasured=("notes",),
    near_learned={"law": ("a" * 64,)},
    matrix=Matrix(
        loss_nats=((3.0, 4.0), (2.5, 4.0), (2.5, 3.0)),
        before_nats=((3.0, 4.0), (2.5, 4.0)),
        coming_nats=(2.5, 3.0),
    ),
    metrics=Metrics(-2.75, -2.75, 0.0, 0.0, 0.0, None),
    budget=0.02,
    bound_nats=0.0202,
    answer_bound_nats=0.7133,
    background=(BackgroundRow("gcide", "prose", 8, 1, 0.875, 0.015, 3.1, 3.1),),
    routing=(
        RoutingRow(
            "law", 9, 0, 3.0, 2.4, 2.5, 0.83, None, 1.0, -0.2, 0.2, 0.15, {"medicine": 0.01}
        ),
    ),
    recall=(RecallRow("law", "taught", 0.0, 1.0, 0.5, 4),),
    too_long_questions={"law": 1},
)


def test_json_and_back_is_the_same_report():
    assert EvaluationReport.from_json(json.loads(json.dumps(REPORT.to_json()))) == REPORT
    assert EvaluationReport.from_json(REPORT.to_json()) == REPORT


def test_the_keys_are_those_of_evaluate_json():
    stored = REPORT.to_json()
    assert set(stored) == {
        "snapshot", "domains", "scored_tokens", "unmeasured", "near_learned", "matrix", "metrics",
        "budget", "bound_nats", "answer_bound_nats", "background", "routing",
        "with_recall", "recall", "asked", "too_long_questions",
    }  # fmt: skip
    assert set(stored["routing"][0]) == {
        "domain", "documents", "cut_documents", "base_loss_nats", "oracle_loss_nats", "loss_nats",
        "efficiency", "efficiency_continuation", "found", "max_added_nats", "reduction",
        "reduction_without_stock_words", "reduction_by_other_domains",
    }  # fmt: skip
    assert set(stored["background"][0]) == {
        "source", "kind", "documents", "cut_documents", "identical", "max_added_nats",
        "base_loss_nats", "loss_nats",
    }  # fmt: skip
    assert set(stored["recall"][0]) == {"domain", "wording", "base", "oracle", "routed", "num"}


@pytest.mark.parametrize(("worst", "is_within"), [(0.0201, True), (0.03, False)])
def test_the_worst_document_of_all_decides_the_bound(worst, is_within):
    row = BackgroundRow("letters", "prose", 8, 0, 0.5, worst, 3.1, 3.1)
    report = EvaluationReport(**{**vars(REPORT), "background": (*REPORT.background, row)})
    assert report.max_added_nats == worst
    assert report.is_within_bound is is_within


def test_where_nothing_is_scored_the_worst_document_is_absent():
    report = EvaluationReport(**{**vars(REPORT), "background": (), "routing": ()})
    assert (report.max_added_nats, report.is_within_bound) == (None, True)
