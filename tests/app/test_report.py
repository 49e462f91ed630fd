import math
import re

import pipelines.demo
from app.bound import broken_rows
from app.output import print_table
from app.report import print_report, print_writings
from pipelines.writing import Writing

REPORT = {
    "snapshot": 3,
    "domains": ["law", "medicine"],
    "matrix": {"loss_nats": [[6.0, 6.0], [5.0, 5.9], [5.0, 4.5]]},
    "metrics": {"acc": -4.75, "bwt": 0.00003},
    "budget": 0.02,
    "background": [{"source": "[news]", "kind": "prose", "documents": 8, "identical": 1.0}],
    "mixture": [{"domain": "law", "documents": 8, "kept": 0.9, "asked": None}],
    "recall": [],
    "unmeasured": ["notes"],
}


def test_a_report_shows_its_figures(capsys):
    print_report(REPORT)
    told = capsys.readouterr().out
    for part in (
        "after medicine",
        "5.9000",
        "3.0e-05",
        "[news]",
        "0.9000",
        "facts: none",
        "notes: no text",
    ):
        assert part in told


def test_a_share_of_no_gain_is_a_dash_among_numbers(capsys):
    rows = [{"domain": name, "kept": kept} for name, kept in (("law", 0.9), ("worse", None))]
    print_report(REPORT | {"mixture": rows, "metrics": {"bwt": -0.4, "retention": None}})
    told = capsys.readouterr().out
    assert re.search(r"retention +- +share", told)
    assert "0.9000" in told
    print_table("shares", ("domain", "kept"), [("law", 0.9), ("worse", None)])
    *_, law, worse = capsys.readouterr().out.splitlines()
    assert law.endswith("  0.9000")
    assert worse.endswith("       -"), "a dash stands where numbers stand"


def test_every_document_is_held_to_the_bound(capsys):
    rows = {"mixture": [{"domain": "law", "max_added_nats": 0.01}], "bound_nats": 0.0202}
    print_report(REPORT | rows)
    told = capsys.readouterr().out
    assert "no document lost more than 0.0100 nats in all; the bound is 0.0202" in told
    gains = {"mixture": [{"domain": "law", "max_added_nats": -19.1058}], "bound_nats": 0.0202}
    print_report(REPORT | gains | {"background": []})
    told = capsys.readouterr().out
    assert "every document gained at least 19.1058 nats in all; the bound is 0.0202" in told
    rows["background"] = [{"source": "news", "max_added_nats": 0.0302}]
    print_report(REPORT | rows)
    told = capsys.readouterr().out
    assert "a document of news lost 0.0302 nats, MORE than the bound of 0.0202" in told
    assert "no document lost more" not in told


def test_a_loss_that_is_no_number_is_not_within_the_bound():
    report = {"background": [], "mixture": [{"domain": "law", "max_added_nats": math.nan}]}
    assert [name for name, _ in broken_rows(report | {"bound_nats": 0.0202})] == ["law"]


def test_the_texts_of_general_ability_are_held_to_the_bound(capsys):
    letters = GENERAL | TEXTS | {"max_added_nats": 0.015}
    rows = {"general": [GENERAL, letters], "bound_nats": 0.0202}
    print_report(REPORT | rows)
    told = capsys.readouterr().out
    assert "no document lost more than 0.0150 nats in all; the bound is 0.0202" in told
    rows["general"] = [GENERAL, letters | {"max_added_nats": 1.0}]
    print_report(REPORT | rows)
    told = capsys.readouterr().out
    assert "a document of letters lost 1.0000 nats, MORE than the bound of 0.0202" in told


def test_documents_that_are_scored_in_part_are_counted(capsys):
    rows = [{"domain": name, "cut_documents": 600} for name in ("law", "medicine")]
    print_report(REPORT | {"mixture": rows, "scored_tokens": 1024})
    told = " ".join(capsys.readouterr().out.split())
    assert "1,200 documents were scored to the first 1,024 tokens only" in told
    print_report(REPORT)
    assert "only" not in capsys.readouterr().out


def test_held_out_documents_to_which_something_learned_is_near_are_counted(capsys):
    print_report(REPORT | {"near_learned": {"law": ["0" * 64], "medicine": ["1" * 64] * 1200}})
    told = " ".join(capsys.readouterr().out.split())
    near = "not measured, since a live pool learned a near copy"
    assert f"law: 1 held-out document {near}" in told
    assert f"medicine: 1,200 held-out documents {near}" in told
    print_report(REPORT)
    assert "near copy" not in capsys.readouterr().out


def test_questions_that_were_too_long_to_be_asked_are_counted(capsys):
    print_report(REPORT | {"too_long_questions": {"law": 1, "medicine": 1200}})
    told = " ".join(capsys.readouterr().out.split())
    longer = "not asked: longer, with the answer, than the base reads"
    assert f"law: 1 question was {longer}" in told
    assert f"medicine: 1,200 questions were {longer}" in told
    print_report(REPORT)
    assert "not asked" not in capsys.readouterr().out


def test_both_bounds_are_told_where_names_count(capsys):
    print_report(REPORT)
    assert "names count" not in capsys.readouterr().out
    print_report(REPORT | {"name_odds": 0.1, "bound_nats": 0.0202, "named_bound_nats": 0.1155})
    told = capsys.readouterr().out
    assert "names count, with odds 0.1" in told
    assert "0.0202" in told
    assert "0.1155" in told


GENERAL = {
    "task": "PIQA",
    "kind": "choice",
    "items": 20,
    "base_accuracy": 0.55,
    "accuracy": 0.5,
    "changed_items": 2,
    "gained": 0,
    "lost": 1,
    "difference_interval": [-0.2361, 0.1166],
    "asked_items": 3,
    "base_loss_nats": None,
    "loss_nats": None,
    "max_added_nats": None,
}
TEXTS = {"task": "letters", "kind": "text", "base_loss_nats": 3.1234, "loss_nats": 3.1239}


def test_general_ability_is_shown_where_it_was_measured(capsys):
    print_report(REPORT)
    assert "general ability" not in capsys.readouterr().out
    told = {"general": [GENERAL, GENERAL | TEXTS], "general_left_out": ["left out: a.jsonl:1"]}
    print_report(REPORT | told)
    shown = capsys.readouterr().out
    for part in ("left out: a.jsonl:1", "0.5500", "-0.2361 to +0.1166", "3.1234", "3.1239"):
        assert part in shown


def test_continuations_stand_side_by_side(capsys):
    print_writings("law", [Writing("The [court]", " held", 0.25, {"law": 0.75}, " was", 1, False)])
    told = capsys.readouterr().out
    for part in ("The [court]", "held", "was", "law 0.750, base 0.250"):
        assert part in told


def test_demo_shows_what_it_is_told(peer_cl, tmp_path, monkeypatch):
    def run_demo(folder, face, *, quick, progress):
        progress("learning", 1, 1, "")
        face.say(f"{folder.name} {quick}")
        face.show_report(REPORT)

    monkeypatch.setattr(pipelines.demo, "run_demo", run_demo)
    result = peer_cl("demo", "--quick", folder=tmp_path / "shown")
    assert result.code == 0, result.err
    assert "shown True" in result.out
    assert "after medicine" in result.out
    assert "learning: 1 of 1" in result.err
