"""What a domain's coming cost the others: the table, the sentence, and the page's part."""

import json

import pytest
from filled_store import grow, new_store

from app.dashboard.charts import costs as charts
from app.dashboard.frames import costs as frames
from pipelines import open_store

REPORT = {
    "domains": ["law", "medicine", "soil"],
    "bound_nats": 0.0202,
    "matrix": {
        "loss_nats": [
            [4.0, 3.0, 5.0],
            [2.0, 3.1, 5.0],
            [2.5, 2.0, 4.9],
            [2.5, 2.0, 4.0],
        ]
    },
}


def test_each_other_domain_is_compared_just_before_and_after():
    frame = frames.costs(REPORT, "medicine")
    assert frame["domain"].tolist() == ["law", "soil"]
    assert frame["learned"].tolist() == ["earlier", "later"]
    assert frame["change_nats"].round(6).tolist() == [0.5, -0.1]
    assert "most of all law, by 0.5000" in frames.in_words(frame, "medicine")
    assert "25.00% of its loss" in frames.in_words(frame, "medicine")


def test_what_cannot_be_seen_is_no_cost():
    frame = frames.costs(REPORT, "soil")
    assert frames.in_words(frame, "soil").startswith("soil cost the others nothing")
    assert frames.worst_costs(REPORT) == pytest.approx({"law": 0.1, "medicine": 0.5, "soil": 0.0})


def test_what_is_left_of_the_first_gain():
    assert frames.retained(REPORT) == pytest.approx({"law": 0.75, "medicine": 1.0, "soil": 1.0})


def test_what_was_switched_off_since_is_not_what_the_newest_domain_cost():
    came = REPORT["matrix"]["loss_nats"][-1]
    off = [4.0, 2.0, 4.0]  # law is disabled now
    matrix = {"loss_nats": [*REPORT["matrix"]["loss_nats"][:-1], off], "coming_nats": came}
    report = REPORT | {"matrix": matrix}
    assert frames.costs(report, "soil").equals(frames.costs(REPORT, "soil"))
    assert frames.retained(report)["law"] == 0.0
    disabled = report | {"matrix": matrix | {"loss_nats": [*matrix["loss_nats"][:-1], [2.5, 2, 5]]}}
    assert frames.retained(disabled)["soil"] == 0.0  # not "all of nothing"


def test_what_came_between_two_measured_domains_is_not_the_second_ones_cost():
    before = [[4.0, 3.0, 5.0], [2.0, 3.1, 5.0], [2.6, 2.0, 4.9]]
    report = REPORT | {"matrix": REPORT["matrix"] | {"before_nats": before}}
    changes = frames.costs(report, "soil").set_index("domain")["change_nats"]
    assert changes.round(6).to_dict() == {"law": -0.1, "medicine": 0.0}


def test_one_domain_alone_costs_nobody():
    alone = {"domains": ["law"], "matrix": {"loss_nats": [[4.0], [2.0]]}}
    frame = frames.costs(alone, "law")
    assert frame.empty
    assert "only domain" in frames.in_words(frame, "law")
    assert frames.worst_costs(alone) == {}


def test_the_newest_report_with_a_domain_is_found():
    older = {"domains": ["law", "medicine"]}
    assert frames.newest_with([(1, older), (2, {"domains": ["law"]})], "medicine") == 0
    assert frames.newest_with([(1, older)], "soil") is None


def test_the_chart_has_units_and_the_domains_colours():
    frame = frames.costs(REPORT, "medicine")
    spec = json.dumps(charts.cost_bars(frame, {"law": "#111111", "soil": "#222222"}).to_dict())
    assert "nats a token (positive = lost)" in spec
    assert "#111111" in spec


def test_the_page_says_what_a_domain_cost(run_page, large_folder):
    at = run_page("domains", large_folder, domain="domain-07", part="Cost")
    assert not at.exception
    assert not at.error
    assert "domain-07" in at.text[0].value
    assert len(at.dataframe[-1].value) == 49


def test_a_domain_that_no_evaluation_measured_says_so(run_page, tmp_path):
    place = new_store(tmp_path / "one")
    grow(place, "law")
    at = run_page("domains", place, domain="law", part="Cost")
    assert "No evaluation measured this domain." in at.info[0].value
    assert "Measure now" in [button.label for button in at.button]


def test_a_domain_that_is_out_still_tells_its_cost(run_page, tmp_path):
    place = new_store(tmp_path / "three")
    for name in REPORT["domains"]:
        grow(place, name)
    with open_store(place) as store:
        store.registry.put_evaluation(store.registry.live().id, REPORT)
        store.roll_back("medicine", out=True)
    at = run_page("domains", place, domain="medicine", part="Cost")
    assert not at.exception
    assert "most of all law" in at.text[0].value
