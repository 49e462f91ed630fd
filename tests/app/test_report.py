"""How an answer is printed: the answer and how sure it is, then what is quoted and where."""

import pytest

from app.report import BASE_SPOKE, answer_lines
from pipelines.answer import Answer, Source

SOURCE = Source("sea", "0" * 64, "Seals", "law.md", "Nobody is to feed a seal.", 0.93, True)


def said(kind="known", text="nobody", probability=0.93, sources=(SOURCE,)):
    return answer_lines(
        Answer("Who feeds seals?", kind, text, probability, sources, None, None, None)
    )


def test_a_short_answer_stands_above_its_sentence():
    assert said() == ["nobody  (sure, 0.93)", "“Nobody is to feed a seal.”  [Seals, law.md]"]


@pytest.mark.parametrize(
    ("probability", "sure"), [(0.6, "likely, 0.60"), (0.4, "unsure, 0.40"), (None, "unsure")]
)
def test_a_sentence_alone_is_the_answer(probability, sure):
    lines = said(text=SOURCE.sentence, probability=probability)
    assert lines == [f"“Nobody is to feed a seal.”  ({sure})", "[Seals, law.md]"]


def test_what_nothing_answers_shows_the_nearest():
    nearest = ["not known; nearest:", "“Nobody is to feed a seal.”  [Seals, law.md]"]
    assert said("not known", "not known") == nearest
    assert said("not known", "not known", None, ()) == ["not known: nothing is learned"]
    assert said("base", "Seals eat fish.", None) == ["Seals eat fish.", "", BASE_SPOKE]
