"""What the demo's figures say of an evaluation: the worst of each, against goals and floors."""

import copy
import math

import pytest

from benchmarks import demo


def domain(name, reduction, kept, kept_continuation, added):
    return {
        "domain": name,
        "documents": 10,
        "reduction": reduction,
        "kept": kept,
        "kept_continuation": kept_continuation,
        "max_added_nats": added,
    }


def source(name, kind, identical, added):
    return {
        "source": name,
        "kind": kind,
        "documents": 4,
        "identical": identical,
        "max_added_nats": added,
    }


def recall(name, wording, forced, mixture):
    return {"domain": name, "wording": wording, "forced": forced, "mixture": mixture}


REPORT = {
    "bound_nats": 0.0202,
    "metrics": {"bwt": -0.0005},
    "mixture": [domain("law", 0.4, 0.9, 0.97, -0.5), domain("minerals", 0.3, 0.95, 0.98, 0.001)],
    "background": [
        source("letters", "prose", 1.0, 0.004),
        source("news", "prose", 0.75, 0.015),
        source("verdicts", "look-alike", 0.0, 0.01),
    ],
    "recall": [
        recall("law", "seen", 0.95, 0.9),
        recall("minerals", "seen", 0.8, 0.85),
        recall("law", "reworded", 0.4, 0.3),
        recall("minerals", "reworded", 0.7, 0.2),
    ],
}


def test_the_headline_is_the_worst_domain_and_source_of_each():
    found = demo._headline(REPORT)
    assert [(figure.value, figure.holds) for figure in found] == [
        (0.3, False),
        (0.9, True),
        (0.97, True),
        (0.015, True),
        (0.75, False),
        (-0.0005, False),
        (0.8, False),
        (0.85, None),
        (0.4, False),
        (0.2, None),
    ]
    names = [figure.figure for figure in found]
    assert "worst added loss of any of 32 documents (nats a document)" in names
    assert names[6] == "exact recall of facts, seen wording, pool forced on: worst domain (share)"
    assert names[9] == "exact recall of facts, reworded wording, mixture: worst domain (share)"


@pytest.mark.parametrize(
    ("part", "place", "key", "value", "told"),
    [
        ("mixture", 0, "reduction", 0.2, "loss reduction, pool forced on, law: 0.2 < 0.22"),
        ("mixture", 1, "kept", None, "kept by the mixture, every pool asked, minerals: 0 < 0.75"),
        ("mixture", 1, "max_added_nats", 0.03, "worst loss not added, minerals: -0.03 < -0.0202"),
        ("background", 0, "identical", 0.4, "identical, letters: 0.4 < 0.5"),
        ("background", 2, "max_added_nats", 0.03, "worst loss not added, verdicts: -0.03 < -0.02"),
        ("background", 0, "max_added_nats", math.nan, "worst loss not added, letters: nan < -0.02"),
        ("recall", 1, "forced", 0.5, "recall, minerals: 0.5 < 0.6"),
        ("metrics", "bwt", None, -0.01, "BWT: -0.01 < -0.001"),
    ],
)
def test_what_falls_below_a_floor_is_named(part, place, key, value, told):
    assert list(demo._broken_floors(REPORT)) == []
    worse = copy.deepcopy(REPORT)
    if key is None:
        worse[part][place] = value
    else:
        worse[part][place][key] = value
    (found,) = demo._broken_floors(worse)
    assert found.startswith(told)
