"""What a learning curve is read by: the base, where the facts end, the end of a run."""

from dataclasses import replace

import pytest
from pages import everything
from tiny_base import make_tiny_store

from app.dashboard.charts import domains as charts
from app.dashboard.frames import domains as frames
from app.dashboard.frames import learning
from pipelines import open_store
from pipelines.batches import Row, plan_steps


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("learning"), domains=("law",))


def config(**changes):
    whole = {"text_passes": 1.5, "fact_passes": 10.0, "least_steps": 30, "validations": 3}
    return whole | changes


@pytest.mark.parametrize(("num_texts", "num_facts"), [(200, 100), (400, 30), (100, 400)])
def test_the_mark_is_where_the_plan_has_its_last_fact(num_texts, num_facts):
    texts = [Row(f"t{at}", "text", list(range(40 + at % 20))) for at in range(num_texts)]
    facts = [Row(f"f{at}", "fact", list(range(12 + at % 5))) for at in range(num_facts)]
    rows = [*texts, *facts]
    steps = plan_steps(rows, {"text": 1.5, "fact": 10.0}, 160, seed=0, least_steps=30)
    has_fact = [any(rows[at].kind == "fact" for at in step) for step in steps]
    last = len(steps) - has_fact[::-1].index(True)
    tokens = {
        "text": sum(len(row.ids) for row in texts),
        "fact": sum(len(row.ids) for row in facts),
    }
    found = learning.fact_end(config(validations=0), tokens, [(1, 1.0, None)] * len(steps))
    assert found == pytest.approx(last, abs=0.03 * len(steps) + 10)
    assert found < len(steps)


@pytest.mark.parametrize(
    ("changes", "tokens", "validations"),
    [
        ({}, {"text": 4000}, 3),
        ({"text_passes": 2.0}, {"text": 4000, "fact": 400}, 3),
        ({"fact_passes": 2.5}, {"text": 4000, "fact": 400}, 3),
        ({"least_steps": 200}, {"text": 4000, "fact": 400}, 3),
        ({}, {"text": 4000, "fact": 400}, 2),
    ],
    ids=["no facts", "whole passes", "facts go on too", "read more often", "stopped early"],
)
def test_where_the_mix_does_not_change_or_is_not_known_there_is_no_mark(
    changes, tokens, validations
):
    losses = [(step, 1.0, 2.0 if step <= validations else None) for step in range(1, 101)]
    assert learning.fact_end(config(**changes), tokens, losses) is None
    assert learning.fact_end({"seed": 0}, tokens, losses) is None


def test_the_base_s_rules_are_means_by_tokens_and_readings(made):
    with open_store(made) as store:
        detail, documents = store.registry.domain("law"), store.registry.documents("law")
    table = learning.base_losses(detail, documents, 4.5)
    own = [item for item in documents if item.base_nats is not None]
    mean = sum(d.base_nats * d.num_tokens for d in own) / sum(d.num_tokens for d in own)
    assert table["kind"].tolist() == ["training", "validation"]
    assert table["loss"].tolist() == pytest.approx([mean, 4.5])
    spec = charts.losses(
        frames.losses(detail), "#4477aa", bases=table, ends=learning.fact_ends(detail, documents)
    ).to_dict()
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["line", "line", "line", "rule"]
    assert learning.base_losses(detail, (), 4.5).empty


def test_the_strong_line_is_a_mean_over_a_share_of_the_run(made):
    with open_store(made) as store:
        detail = store.registry.domain("law")
    (run,) = detail.runs
    for num, width in ((31, 2), (1000, 50)):
        losses = tuple((step, float(step), None) for step in range(1, num + 1))
        table = frames.losses(replace(detail, runs=(replace(run, losses=losses),)), most_points=num)
        middle = table.set_index("step").loc[num // 2]
        assert middle["smoothed"] == pytest.approx(middle["loss"], abs=0.5)
        assert table["smoothed"].iloc[0] == pytest.approx(1 + (width - 1) / 4, abs=width / 4 + 0.5)


def test_the_page_says_what_its_lines_are(run_page, made):
    at = run_page("domains", made, domain="law", part="Learning")
    assert not at.exception
    assert not at.error
    told = everything(at)
    assert "its mean over 5% of the run" in told
    assert "Grey, across: the base alone, on what was learned" in told
    assert "facts are over" not in told
    assert "text passes" in at.dataframe[-1].value["setting"].tolist()
