"""Calibrating a store to a user's own questions: an act that changes requests alone."""

import json

import pytest
from tiny_store import store_logits

from peer_cl.errors import CorpusError
from pipelines.answer.calibrate import LEAST, AskedQuestion, read_asked
from pipelines.units import units_of

TEXT = "The court of appeal held that the fever was void"


@pytest.fixture
def asked(store):
    """Questions in the words of law's sentences, and others about jazz."""
    queries = store.registry.queries
    texts = [
        (one, queries.document_text(one))
        for one in queries.documents("law", split="train")
        if one.kind == "text"
    ]
    known = [
        AskedQuestion(f"What of {' '.join(unit.split()[:6])}?", unit.split()[-1], one.title)
        for one, text in texts
        for unit in units_of(text)
    ][: LEAST + 2]
    assert len(known) == LEAST + 2
    instruments = ("tuba", "drum", "harp", "flute", "organ", "oboe")
    jazz = [f"Who plays the {one} {when}?" for one in instruments for when in ("today", "well")]
    return [*known, *map(AskedQuestion, jazz)]


def test_it_is_an_act_that_changes_requests_alone_and_rolls_back(store, asked):
    before, logits = store.registry.queries.live(), store_logits(store, TEXT)
    probability = store.ask(asked[0].question).probability
    report = store.calibrate(asked, message="ours")
    live = store.registry.queries.live()
    assert (report.snapshot_id, live.domains) == (live.id, before.domains)
    assert store.registry.queries.events(1)[0].action == "calibrate"
    assert live.calibration["name"] == "all-MiniLM-L6-v2"
    assert (report.num_answerable, report.num_unanswerable) == (LEAST + 2, 12)
    assert report.after.right >= report.before.right
    changed = store.ask(asked[0].question)
    assert changed.probability != probability
    assert store_logits(store, TEXT).equal(logits)
    store.freeze("law")
    assert store.ask(asked[0].question).probability == changed.probability
    store.roll_back_to(before.id)
    assert store.registry.queries.live().calibration is None
    assert store.ask(asked[0].question).probability == probability


def test_what_cannot_be_fitted_is_refused_and_nothing_changes(store, asked):
    live = store.registry.queries.live()
    with pytest.raises(CorpusError, match=r"3 questions have an answer and 0 have none"):
        store.calibrate(asked[:3])
    wrong = AskedQuestion("Who sings?", "a penguin", asked[0].document)
    with pytest.raises(CorpusError, match="stands in no sentence of"):
        store.calibrate([*asked, wrong])
    with pytest.raises(CorpusError, match="no id, title or source of a live document"):
        store.calibrate([*asked, AskedQuestion("Who sings?", "x", "nowhere")])
    assert store.registry.queries.live() == live


def test_questions_are_read_line_by_line(tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [{"question": "Who?", "answer": "Ann", "document": "a.md"}, {"question": "Why?"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_asked(file) == [AskedQuestion("Who?", "Ann", "a.md"), AskedQuestion("Why?")]
    file.write_text('{"answer": "Ann"}')
    with pytest.raises(CorpusError, match=r'1.*has no text as "question"'):
        read_asked(file)
