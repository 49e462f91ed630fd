import json

import pytest

from peer_cl.errors import CorpusError
from pipelines.corpora import SourceDocument
from pipelines.study.builtin import questions_of
from pipelines.study.making import BuiltinMaker, passages_of, study
from pipelines.study.questions import StudyQuestion, append_questions, is_clear, read_questions

HANDBOOK = """\
# Vacation

Every employee receives 28 days of paid vacation a year. This text is not a contract. Unused days
expire on 31 March of the following year. Requests are approved by Priya Raman.

- Notice period: two weeks
- Contact: Priya Raman

New engineers receive:

- a laptop
- two monitors

| Office | City | Desks | Opened |
|---|---|---|---|
| Harbour | Rotterdam | 120 | 2014 |
| Mill | Leeds | 45 | 2019 |
"""
CURIE = """\
Marie Curie (1867–1934) was a physicist. She discovered polonium in Paris in 1898. Radium was
isolated by Curie because she wanted to know its weight. The International Union of Chemistry (IUC)
named three elements after scientists such as Curie. Curie's daughter won a prize. The Curie
institute employs 300 people. It was founded in 1909. The organism’s cells store red starch.
"""
TEXTS = [(HANDBOOK, "Vacation"), (CURIE, "Marie Curie"), (CURIE, "")]


@pytest.mark.parametrize(("text", "title"), TEXTS)
def test_every_answer_stands_in_the_text_and_not_in_its_question(text, title):
    whole = " ".join(text.split())
    for question, answer in questions_of(text, title):
        assert answer in whole
        assert answer.lower() not in question.lower()
        assert 0 < len(answer.split()) <= 8


@pytest.mark.parametrize(("text", "title"), TEXTS)
def test_every_question_can_be_understood_alone(text, title):
    pointing = {"it", "he", "she", "they", "this", "these", "him", "them"}
    for question, _ in questions_of(text, title):
        assert is_clear(question)
        assert question[0].isupper()
        assert question.endswith("?")
        assert pointing.isdisjoint(question.rstrip("?").split())


def test_the_same_text_has_the_same_questions():
    assert questions_of(CURIE, "Curie") == questions_of(CURIE, "Curie")


def test_no_question_is_asked_twice():
    asked = [question.lower() for question, _ in questions_of(CURIE)]
    assert len(set(asked)) == len(asked)


def test_a_smaller_number_of_questions_are_the_first_ones():
    made = questions_of(HANDBOOK, "Vacation")
    assert questions_of(HANDBOOK, "Vacation", max_questions=7) == made[:7]


def test_the_first_questions_have_different_answers():
    answers = [answer.lower() for _, answer in questions_of(CURIE, "", max_questions=15)]
    assert len(set(answers)) == 15


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("Marie Curie found polonium in 1898.", "Who found polonium in 1898?", "Marie Curie"),
        ("Marie Curie found polonium in 1898.", "What did Marie Curie find?", "polonium"),
        ("Marie Curie found polonium in 1898.", "When did Marie Curie find polonium?", "1898"),
        ("The Hanse port was built by Adolf Meyer.", "Who built the Hanse port?", "Adolf Meyer"),
        (
            "The Hanse port was built by Adolf Meyer.",
            "What was built by Adolf Meyer?",
            "Hanse port",
        ),
        ("Clement was born in Paris.", "Where was Clement born?", "Paris"),
        ("Curie employs 300 people.", "How many people does Curie employ?", "300"),
        ("Ada Lovelace's daughter won a prize.", "Whose daughter won a prize?", "Ada Lovelace"),
        ("The algae contain red starch.", "What kind of starch do the algae contain?", "red"),
        ("Berlin is the capital of Germany.", "What is Berlin?", "capital of Germany"),
        ("Berlin is the capital of Germany.", "What is the capital of Germany?", "Berlin"),
        ("New engineers receive a red badge.", "Who receives a red badge?", "New engineers"),
        ("Mines sell rare metals such as gold.", "What is an example of rare metals?", "gold"),
        (
            "The Rhine Delta Authority (RDA) met.",
            "What does RDA stand for?",
            "Rhine Delta Authority",
        ),
        ("Karl Marx (1818–1883) wrote books.", "When did Karl Marx live?", "1818–1883"),
        ("Luther promised to remain silent.", "What did Luther promise to do?", "remain silent"),
    ],
)
def test_a_sentence_is_asked_for_each_of_its_parts(sentence, question, answer):
    assert (question, answer) in questions_of(sentence, "")


def test_pronouns_are_named_after_the_last_subject_or_the_title():
    made = dict(questions_of("It lies in Holstein. Its port was built in 1871.", "Kiel"))
    assert made["Where does Kiel lie?"] == "Holstein"
    assert made["When was Kiel's port built?"] == "1871"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the notice period of Vacation?", "two weeks"),
        ("How many monitors do new engineers receive?", "two"),
        ("How many desks does Harbour have?", "120"),
        ("Which office has 120 desks?", "Harbour"),
        ("What is the city of Mill?", "Leeds"),
        ("Which office has the city Leeds?", "Mill"),
        ("When was Mill opened?", "2019"),
    ],
)
def test_lines_lists_and_tables_are_asked_in_both_directions(question, answer):
    assert (question, answer) in questions_of(HANDBOOK, "Vacation", max_questions=1000)


def test_rows_of_a_table_are_asked_cell_by_cell():
    rows = "Article: lamp; Model: X; Net price: 38\nArticle: desk; Model: Y-2; Net price: 120.50"
    made = dict(questions_of(rows, "prices, lines 1-2"))
    assert made["What is the net price of desk?"] == "120.50"
    assert sorted(made.values()) == ["120.50", "38", "X", "Y-2"]
    assert (
        dict(questions_of("Model: X; Net price: 38", "lamp"))["What is the model of lamp?"] == "X"
    )


def test_items_of_a_label_are_asked_one_by_one():
    made = questions_of("Chad. Natural resources: gold, salt, oil. Climate: hot.", "Chad")
    assert ("What is the climate of Chad?", "hot") in made
    assert ("Which natural resources does Chad have besides gold?", "salt") in made


def test_a_dictionary_entry_says_what_its_word_is():
    made = questions_of("sea lion (animal): A large seal with small ears.", "sea lion")
    assert ("What kind of thing is sea lion?", "animal") in made
    assert ("What is sea lion?", "large seal") in made


def test_a_text_without_sentences_has_no_questions():
    assert questions_of("", "Nothing") == questions_of("- - -\n\n12", "Numbers") == []


def test_questions_are_read_as_they_were_written(tmp_path):
    made = [StudyQuestion("Kiel", "Who founded Kiel?", "Adolf IV", "endpoint:m", "ab")]
    append_questions(tmp_path / "made.jsonl", made)
    append_questions(tmp_path / "made.jsonl", made)
    assert read_questions(tmp_path / "made.jsonl") == ((*made, *made), ())


def test_people_need_three_fields(tmp_path):
    row = {"document": "notes/kiel.md", "question": "Who founded Kiel?", "answer": "Adolf IV"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    (question,), _ = read_questions(tmp_path / "own.jsonl")
    assert (question.source, question.passage) == ("own", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": " "}, 'own.jsonl:2 has no "answer"'),
        ({"document": None}, 'own.jsonl:2 has no "document"'),
        ({"source": "web"}, "2 has the \"source\" 'web', not own, built-in or endpoint:MODEL"),
        ({"source": "endpoint:"}, "'endpoint:'"),
        ({"question": "a\0"}, "NUL"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, change, message):
    row = {"document": "Kiel", "question": "Who founded Kiel?", "answer": "Adolf IV"}
    path = tmp_path / "own.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps({**row, **change})}\n")
    with pytest.raises(CorpusError, match=message):
        read_questions(path)
    questions, skipped = read_questions(path, on_bad_row="skip")
    assert (len(questions), len(skipped)) == (1, 1)


def test_passages_are_whole_paragraphs_and_each_is_asked_once():
    long = "\n\n".join(f"{number} " + "word " * 100 for number in range(20)).strip()
    documents = [SourceDocument(long, "a", "a.txt"), SourceDocument(long, "b", "b.txt")]
    passages = list(passages_of(documents))
    assert "\n\n".join(passage.text for passage in passages) == long
    assert all(len(passage.text) <= 2000 for passage in passages)
    assert {passage.document.title for passage in passages} == {"a"}


def test_a_passage_in_the_file_is_not_asked_again(tmp_path):
    out = tmp_path / "made.jsonl"
    passages = list(passages_of([SourceDocument(CURIE, "Curie", "curie.txt")]))
    first = study(passages, BuiltinMaker(), out)
    more = [*passages, *passages_of([SourceDocument("Kiel lies in Holstein.", "Kiel", "k.txt")])]
    second = study(more, BuiltinMaker(), out)
    assert (first.num_passages, first.num_known) == (1, 0)
    assert (second.num_passages, second.num_known) == (2, 1)
    questions, _ = read_questions(out)
    assert len(questions) == first.num_questions + second.num_questions
    assert {one.document for one in questions} == {"Curie", "Kiel"}


def test_a_question_in_the_text_is_answered_by_the_next_sentence():
    made = questions_of("How do I cancel a plan? Open Settings and choose Cancel.", "FAQ")
    assert ("How do I cancel a plan?", "Open Settings and choose Cancel") in made


def test_numbered_steps_are_asked_by_their_number():
    made = questions_of("To restore a backup:\n\n1. Stop the server\n2. Copy the archive", "")
    assert ("What is step 2 to restore a backup?", "Copy the archive") in made
    assert ("What comes after Stop the server to restore a backup?", "Copy the archive") in made


def test_each_paragraph_has_the_topic_of_its_own_heading():
    made = questions_of("# Kiel\n\n- Area: 118 km\n\n# Bonn\n\n- Area: 141 km", "Cities")
    assert ("What is the area of Kiel?", "118 km") in made
    assert ("What is the area of Bonn?", "141 km") in made
