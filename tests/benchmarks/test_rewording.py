"""Articles with and without rewordings, on a tiny base."""

import json
from dataclasses import replace

import pytest
from tiny_base import background, make_tiny_base, sentences
from tiny_stream import SETTINGS, foreign

from benchmarks import rewording
from benchmarks.results import reported
from benchmarks.rewording import AGAIN, ARTICLES, LISTS, TEXT, Reworded, compare, cut, measure
from benchmarks.stream.data import prepare_domain
from peer_cl.bases import load_base
from peer_cl.errors import CorpusError

TITLES = {"Law (England)": "law", "Minerals": "minerals", "Ships": "prose"}


def drawn(subject, number):
    """Return the lines of a list: one as long as four passages."""
    return sentences(subject, 4, seed=number + 10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows, reworded = [], []
    for size, (title, subject) in enumerate(TITLES.items()):
        for number, text in enumerate(sentences(subject, 30 - size, seed=2)):
            asked = [{"question": "What comes first?", "answer": text.split()[0]}]
            about = {"domain": title, "doc_id": f"{title}/{number}", "text": text}
            rows.append(json.dumps(about | {"questions": asked}))
            lines = "\n".join(f"{n}. {line}" for n, line in enumerate(drawn(subject, number)))
            completions = [f"Anew: {text}", "Well.", f"Sure!\n\n{lines}"]
            said = {"title": title, "context": text, "completions": completions}
            reworded.append(said)
    (folder / "squad_stream.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "squad_rewritings_200.json").write_text(json.dumps(reworded), encoding="utf-8")
    return folder


def test_a_passage_has_its_rewordings_and_the_questions_on_it(data):
    articles = Reworded(data)
    assert articles.names(2) == ("law-england", "minerals")
    plain, reworded = (articles.load("minerals", has_lists=way) for way in (False, True))
    assert len(plain.documents) == len(plain.asked) == len(reworded.rewordings) == 29
    assert plain.rewordings == {}
    for number, document in enumerate(reworded.documents):
        first, second, *parts = reworded.rewordings[document.document_id]
        assert (first, second) == (f"Anew: {document.text}", "Well.")
        lines = [f"{n}. {line}" for n, line in enumerate(drawn("minerals", number))]
        assert "\n".join(parts) == "\n".join(["Sure!", "", *lines])
        assert len(parts) == 4, "a list is cut into texts as long as its passage"


@pytest.mark.parametrize("text", ["one two three four five six", "\none two three\n\n", "a"])
def test_a_line_is_never_cut(text):
    assert cut(text, 2) == (text.strip(),)


def test_parts_are_about_as_long_as_is_wanted_and_nothing_is_lost():
    text = "\n".join("word " * (n % 7) for n in range(90))
    parts = cut(text, 20)
    assert " ".join(parts).split() == text.split()
    assert all(12 <= len(part.split()) <= 28 for part in parts)


def test_the_control_takes_as_many_steps_though_a_list_is_longer_than_a_step(data, tmp_path):
    base, articles = load_base(str(make_tiny_base(tmp_path / "base"))), Reworded(data)
    settings = replace(SETTINGS, tokens_per_step=24)
    domains = [articles.load("minerals", has_lists=way) for way in (False, True)]
    plain, listed = (prepare_domain(one, base, settings) for one in domains)
    often = rewording._as_often(settings, plain, listed)
    again = prepare_domain(domains[0], base, often)
    assert again.num_tokens == pytest.approx(listed.num_tokens, rel=0.05)
    assert len(again.steps) == pytest.approx(len(listed.steps), rel=0.1)


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
    assert len(values) == len(found) == 19
    assert values["tokens of unseen text"] > 20
    assert values["people's questions asked"] > 20
    for way in (TEXT, AGAIN, LISTS):
        learned = values[f"{way}: unseen loss, pool forced on (nats a token)"]
        assert learned < values["base: unseen loss (nats a token)"]
    read = {way: values[f"{way}: tokens read in training"] for way in (TEXT, AGAIN, LISTS)}
    assert read[LISTS] > 1.1 * read[TEXT]
    assert read[AGAIN] == pytest.approx(read[LISTS], rel=0.1)
    steps = {way: values[f"{way}: steps of training"] for way in (TEXT, AGAIN, LISTS)}
    assert steps[LISTS] > 1.1 * steps[TEXT]
    assert steps[AGAIN] == pytest.approx(steps[LISTS], rel=0.1)
    name = f"{LISTS}, less {AGAIN}: people's questions answered"
    low, more, high = (
        values[f"{name}{end} (share)"] for end in (", low end of 95 %", "", ", high end of 95 %")
    )
    shares = [
        values[f"{way}: people's questions answered, pool forced on (share)"]
        for way in (LISTS, AGAIN)
    ]
    assert more == pytest.approx(shares[0] - shares[1])
    assert low <= more <= high


@pytest.mark.parametrize("num", [ARTICLES - 1, ARTICLES, ARTICLES + 1])
def test_only_a_run_of_the_default_number_is_kept(num, monkeypatch, capsys):
    asked = []
    found = [reported("a share", 0.5, "python -m benchmarks rewording")]
    monkeypatch.setattr(
        rewording, "compare", lambda articles, num, work: asked.append(num) or found
    )
    assert measure(["--data", "d", "--articles", str(num)]) == (found if num == ARTICLES else [])
    assert asked == [num]
    assert ("a share: 0.5" in capsys.readouterr().out) is (num != ARTICLES)


def test_without_the_sets_it_says_what_is_missing(tmp_path):
    with pytest.raises(CorpusError, match=r"no .*squad_rewritings_200.json: name the folder"):
        measure(["--data", str(tmp_path), "--articles", "1"])
