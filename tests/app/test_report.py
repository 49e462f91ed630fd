import pipelines.demo
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


def test_continuations_stand_side_by_side(capsys):
    print_writings("law", [Writing("The [court]", " held", 0.25, {"law": 0.75}, " was")])
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
