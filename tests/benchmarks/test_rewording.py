"""Articles with and without rewordings, on a tiny base."""

import json

import pytest
from tiny_base import background, make_tiny_base, sentences
from tiny_stream import SETTINGS, foreign

from benchmarks.rewording import AGAIN, REWORDED, TEXT, Reworded, compare, measure
from peer_cl.errors import CorpusError

TITLES = {"Law (England)": "law", "Minerals": "minerals", "Ships": "prose"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows, reworded = [], []
    for size, (title, subject) in enumerate(TITLES.items()):
        for number, text in enumerate(sentences(subject, 30 - size, seed=2)):
            asked = [{"question": "What comes first?", "answer": text.split()[0]}]
            about = {"domain": title, "doc_id": f"{title}/{number}", "text": text}
            rows.append(json.dumps(about | {"questions": asked}))
            said = {"title": title, "context": text, "completions": [f"Anew: {text}", "Well."]}
            reworded.append(said)
    (folder / "squad_stream.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "squad_rewritings_200.json").write_text(json.dumps(reworded), encoding="utf-8")
    return folder


def test_a_passage_has_its_rewordings_and_the_questions_on_it(data):
    articles = Reworded(data)
    assert articles.names(2) == ("law-england", "minerals")
    plain, reworded = (articles.load("minerals", is_reworded=way) for way in (False, True))
    assert len(plain.documents) == len(plain.asked) == len(reworded.rewordings) == 29
    assert plain.rewordings == {}
    for document in reworded.documents:
        assert reworded.rewordings[document.document_id] == (f"Anew: {document.text}", "Well.")


def test_every_way_learns_and_rewordings_are_read_besides(data, tmp_path):
    base = make_tiny_base(tmp_path / "base")
    others = {
        "base_id": str(base),
        "foreign": foreign,
        "background": background(),
        "settings": SETTINGS,
    }
    found = compare(Reworded(data), 2, tmp_path / "work", **others)
    values = {one.figure: one.value for one in found}
    assert len(values) == len(found) == 13
    assert values["tokens of unseen text"] > 20
    assert values["people's questions asked"] > 20
    for way in (TEXT, AGAIN, REWORDED):
        learned = values[f"{way}: unseen loss, pool forced on (nats a token)"]
        assert learned < values["base: unseen loss (nats a token)"]
    read = {way: values[f"{way}: tokens read in training"] for way in (TEXT, AGAIN, REWORDED)}
    assert read[REWORDED] > 1.1 * read[TEXT]
    assert read[AGAIN] == pytest.approx(read[REWORDED], rel=0.1)


def test_without_the_sets_it_says_what_is_missing(tmp_path):
    with pytest.raises(CorpusError, match=r"no .*squad_rewritings_200.json: name the folder"):
        measure(["--data", str(tmp_path), "--articles", "1"])
