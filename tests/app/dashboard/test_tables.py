from dataclasses import replace

import numpy as np
import pytest
from filled_store import filled_store

from app.dashboard import tables
from app.dashboard.page_overview import live_domains
from app.look import describe_state
from pipelines.report import EvaluationReport, Matrix, Metrics, RecallRow
from pipelines.trace import TracedToken
from stores.queries import Run


@pytest.fixture
def registry(tmp_path):
    with filled_store(tmp_path / "knowledge") as opened:
        yield opened


@pytest.fixture
def small_report():
    """Two domains: law is learned at 2 of the base's 4 nats, then forgets a quarter of a nat."""
    matrix = Matrix(
        loss_nats=((4.0, 5.0), (2.0, 5.0), (2.25, 3.0)),
        before_nats=((4.0, 5.0), (2.0, 5.0)),
        coming_nats=(2.25, 3.0),
    )
    return EvaluationReport(
        snapshot=3,
        domains=("law", "medicine"),
        scored_tokens=512,
        unmeasured=(),
        near_learned={},
        matrix=matrix,
        metrics=Metrics(-2.6, -2.5, -0.25, 0.0, 0.25, None),
        budget=0.02,
        bound_nats=0.0202,
        answer_bound_nats=0.0,
        recall=(
            RecallRow("law", "taught", base=0.0, oracle=1.0, routed=0.5, num=2),
            RecallRow("medicine", "taught", base=0.0, oracle=1.0, routed=1.0, num=6),
        ),
    )


def value(table, step, domain, column="value"):
    row = table[(table["step"] == step) & (table["domain"] == domain)]
    return float(row[column].iloc[0])


def test_the_matrix_in_each_view(small_report):
    assert value(tables.matrix_table(small_report), 1, "law") == 2.0
    from_base = tables.matrix_table(small_report, tables.FROM_BASE)
    assert value(from_base, 2, "medicine") == -2.0
    by_ingest = tables.matrix_table(small_report, tables.BY_INGEST)
    assert value(by_ingest, 2, "law") == 0.25
    assert np.isnan(value(by_ingest, 0, "law"))
    forgot = tables.matrix_table(small_report, tables.FORGOT)
    assert value(forgot, 2, "law") == 0.25
    assert np.isnan(value(forgot, 1, "medicine"))


def test_recall_is_averaged_over_questions(small_report):
    assert tables.mean_recall(small_report, "taught") == (0.5 * 2 + 6) / 8
    assert tables.mean_recall(small_report, "paraphrase") is None


OUTCOMES = [(0.5, False), (0.9, True), (0.8, True), (0.5, True)]


def test_the_risk_is_of_the_surest_answers():
    table = tables.risk_table(OUTCOMES, num=5)
    assert table.values.tolist() == [[0.9, 0.2, 0.0], [0.8, 0.4, 0.0], [0.5, 0.8, 0.25]]


def test_probabilities_are_compared_with_shares_in_equal_bins():
    table = tables.reliability_table(OUTCOMES)
    assert table.to_numpy() == pytest.approx(np.array([[0.5, 0.5, 2], [0.85, 1.0, 2]]))
    assert len(tables.reliability_table(OUTCOMES[:1])) == 1
    assert list(tables.reliability_table(OUTCOMES * 3)["answers"]) == [3, 3, 2, 2, 2]


def test_a_metric_without_a_value_is_a_dash(small_report):
    table = tables.metrics_table(small_report).set_index("metric")
    assert table.loc["Retention", "value"] == "–"
    assert table.loc["Forgetting", "value"] == "+0.2500"


def test_states_of_domains_and_versions(registry):
    registry.switch("freeze", "law", "ann", "")
    registry.remove("medicine", "ann", "")
    domains = registry.queries.domains()
    table = tables.rows(domains, "domain state changed_at", state=describe_state)
    assert list(table["state"]) == ["frozen", "removed"]
    assert [len(stamp) for stamp in table["changed_at"]] == [16, 16]
    registry.roll_back_domain("law", None, "ann", "")
    versions = tables.versions_table(registry.queries.domain("law"))
    assert list(versions["label"]) == ["v2", "v1"]
    assert list(versions["state"]) == ["not live", "live"]


def test_live_domains_without_an_evaluation_have_no_figures(registry):
    table = live_domains(registry.queries.domains(), None)
    assert list(table["domain"]) == ["law", "medicine"]
    assert table["loss_nats"].isna().all()


def test_snapshots_are_named_by_what_made_them(registry):
    queries = registry.queries
    labels = tables.snapshot_labels(queries.snapshots(), queries.events(), queries.live().id)
    assert labels[1].startswith("1: create, 20")
    assert labels[4].startswith("4: law ingest, 20")
    assert labels[4].endswith(", live")


def test_losses_in_long_form():
    table = tables.losses_table([(1, 4.0, None), (2, 2.0, 3.0)], "v1")
    training = table[table["kind"] == tables.TRAINING]
    assert list(training["loss"]) == [4.0, 2.0]
    assert table.loc[table["kind"] == tables.VALIDATION, ["step", "loss"]].values.tolist() == [
        [2, 3.0]
    ]


def test_runs_say_how_they_ended(registry):
    failed = registry.start_run("ingest", "law", "ann", "")
    registry.end_run(failed, "failed", error="the disk is full")
    (run,) = registry.queries.runs()
    table = tables.runs_table([run, replace(run, state="running", is_lost=True, ended_at=None)])
    assert list(table["state"]) == ["failed", "lost"]
    assert table["note"].iloc[0] == "the disk is full"
    assert isinstance(run, Run)


def traced(text, base_weight=1.0, **weights):
    return TracedToken(text, base_weight, weights, -1.0, -0.5, {}, {})


def test_a_text_is_set_in_lines():
    tokens = [traced("A"), traced(" fever", 0.2, law=0.8), traced("\n"), traced(" rash")]
    table = tables.text_table(tokens, num_columns=10)
    assert list(table["shown"]) == ["A", "fever", "⏎", "rash"]
    assert list(table["line"]) == [0, 0, 0, 1]
    assert list(table["left"]) == [0, 2, 7, 1]
    assert list(table["heaviest"]) == ["base", "law", "base", "base"]
    assert tables.text_table(tokens, num_columns=5)["line"].tolist() == [0, 1, 2, 3]
