"""The reader that comes with the project, on the real base: what answers, and with which words."""

import pytest

from peer_cl.bases import load_base
from peer_cl.hooks import Hooks
from peer_cl.own import load_own
from pipelines.answer.reader import READERS, UnitReader, reader_name, unit_prompt
from pipelines.loading import resolve_base
from pipelines.study.questions import stands

UNITS = [
    ("Pumps: P-7", "Pump P-7 moves cooling water to hall 3 and is serviced twice a year."),
    ("Pumps: P-9", "Pump P-9 is the spare of P-7 and stands in hall 4."),
    ("Canteen", "Lunch is served from half past eleven."),
]

pytestmark = pytest.mark.smollm2


@pytest.fixture(scope="module")
def reader():
    base = load_base(resolve_base("smollm2"))
    file = READERS / reader_name(base.identity.weights_sha256)
    assert file.stat().st_size < 1.5e6
    return UnitReader(
        Hooks(base.model), base.tokenizer, load_own(file.read_bytes(), base.identity, name="reader")
    )


@pytest.mark.parametrize(
    ("question", "place", "answer"),
    [
        ("how often does somebody look after P-7", 0, "twice a year"),
        ("If P-7 breaks down, where do I find what replaces it?", 1, "hall 4"),
        ("When can I get something to eat at midday?", 2, "half past eleven"),
    ],
)
def test_it_tells_the_sentence_that_answers_and_reads_the_answer(reader, question, place, answer):
    odds = reader.relevance(question, UNITS)
    assert odds.index(max(odds)) == place
    assert odds[place] > 0
    assert stands(answer, reader.answer(question, *UNITS[place]).text)


def test_what_nothing_answers_has_low_odds_and_order_changes_nothing(reader):
    question = "Who designed the company's logo?"
    odds = reader.relevance(question, UNITS)
    assert max(odds) < 0
    assert reader.relevance(question, UNITS[::-1]) == odds[::-1]


def test_long_texts_are_cut(reader):
    ids = unit_prompt(reader._tokenizer, "A title", "word " * 1000, "why " * 1000)
    assert len(ids) < 240
