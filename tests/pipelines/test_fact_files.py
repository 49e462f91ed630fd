import json

import pytest

from peer_cl.errors import CorpusError
from pipelines.fact_files import read_facts
from stores import texts

GOOD = {
    "subject": "Chad",
    "relation": "capital",
    "answer": "N'Djamena",
    "statement": "The capital of Chad is N'Djamena.",
}


def write(path, *rows):
    lines = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    return path


def test_a_fact_needs_four_fields(tmp_path):
    (fact,), skipped = read_facts(write(tmp_path / "facts.jsonl", GOOD, ""))
    assert fact.seen_prompt == "The capital of Chad is"
    assert fact.reworded_prompts == ()
    assert skipped.num == 0


def test_a_subject_that_the_statement_does_not_hold_hides_no_second_answer(tmp_path):
    row = GOOD | {
        "subject": "the United States of America",
        "answer": "Washington",
        "statement": "In Washington sits the government of the USA, whose capital is Washington.",
    }
    with pytest.raises(CorpusError, match="holds its answer 'Washington' 2 times"):
        read_facts(write(tmp_path / "facts.jsonl", row))


def test_prompts_may_be_given(tmp_path):
    row = GOOD | {
        "seen_prompt": "The capital of Chad is",
        "reworded_prompts": ["Chad is governed from "],
    }
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", row))
    assert fact.reworded_prompts == ("Chad is governed from",)


@pytest.mark.parametrize(
    "unsaid",
    [
        {"seen_prompt": None, "reworded_prompts": None},
        *({"seen_prompt": ""}, {"seen_prompt": " \n"}, {"reworded_prompts": []}),
    ],
)
def test_what_is_null_or_an_empty_prompt_is_not_given(tmp_path, unsaid):
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", GOOD | unsaid))
    assert (fact.seen_prompt, fact.reworded_prompts) == ("The capital of Chad is", ())


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        *(("reworded_prompt", "reworded_prompts"), ("seenprompt", "seen_prompt")),
        *(("seen-prompt", "seen_prompt"), ("seenPrompt", "seen_prompt"), ("Answer", "answer")),
        *(("statment", "statement"), ("RewordedPrompts", "reworded_prompts")),
    ],
)
def test_a_key_with_a_slip_is_refused_with_the_one_that_is_meant(tmp_path, slip, meant):
    row = {key: text for key, text in GOOD.items() if key != meant} | {slip: "a text"}
    told = f"""facts.jsonl:1 has the key '{slip}', which is not known; write "{meant}"; mend"""
    with pytest.raises(CorpusError, match=told):
        read_facts(write(tmp_path / "facts.jsonl", row))


def test_other_keys_are_passed_over(tmp_path):
    others = {"id": 7, "source": "a list", "answers": ["N'Djamena"], "subject_id": 3, "seen": 1}
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", GOOD | others))
    assert fact.answer == "N'Djamena"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", "is no JSON object"),
        ({**GOOD, "answer": " "}, 'no "answer"'),
        ({key: GOOD[key] for key in GOOD if key != "subject"}, 'no "subject"'),
        ({**GOOD, "answer": "Lagos"}, "before the answer"),
        ({**GOOD, "seen_prompt": "The seat of Chad is"}, "before the answer"),
        ({**GOOD, "seen_prompt": "The capital"}, "does not follow the prompt"),
        ({**GOOD, "seen_prompt": 7}, '"seen_prompt" that is a int, not a text'),
        ({**GOOD, "statement": None}, 'no "statement" with something in it'),
        ({**GOOD, "reworded_prompts": "one"}, "no list of texts"),
        ({**GOOD, "reworded_prompts": [1]}, "no list of texts"),
        ({**GOOD, "reworded_prompts": ["Chad has", " "]}, 'empty text .* "reworded_prompts"'),
        (f'{{"subject": {"7" * 5000}}}', "is no JSON .a number has more than"),
        (json.dumps(GOOD).replace("Chad", "Tchéd").encode("latin-1"), "is not UTF-8 .*0xe9"),
        ({**GOOD, "subject": "\ud800"}, 'half a character .* in "subject"'),
        ({**GOOD, "relation": "\0"}, 'a NUL character in "relation"'),
        ({**GOOD, "relation": "\ud800"}, 'half a character .* in "relation"'),
        ({**GOOD, "statement": GOOD["statement"] + "\ud800"}, 'half .* in "statement"'),
        (json.loads(json.dumps(GOOD).replace("N'D", "\\ud800")), 'half .* in "answer"'),
        ({**GOOD, "reworded_prompts": ["Chad has", "\udfff"]}, 'half .* in "reworded_prompts"'),
    ],
)
def test_a_malformed_line_is_named_or_skipped(tmp_path, row, told):
    path = write(tmp_path / "facts.jsonl", GOOD, row)
    with pytest.raises(CorpusError, match=f"facts.jsonl:2 .*{told}"):
        read_facts(path)
    facts, skipped = read_facts(path, "skip")
    assert (len(facts), skipped.num) == (1, 1)


def test_a_fact_longer_than_a_store_keeps_is_named_or_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "MOST_BYTES", 40)
    long = GOOD | {"statement": f"{GOOD['statement']} It is old."}
    path = write(tmp_path / "facts.jsonl", GOOD, long, GOOD | {"reworded_prompts": ["x" * 41]})
    with pytest.raises(CorpusError, match=r"facts.jsonl:2 has a text of 44 bytes, .* most is 40"):
        read_facts(path)
    facts, skipped = read_facts(path, "skip")
    assert (len(facts), skipped.num) == (1, 2)


def test_a_file_without_facts_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="cannot read facts"):
        read_facts(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="has no fact"):
        read_facts(write(tmp_path / "empty.jsonl"))
    told = r"has no fact \(2 malformed rows skipped, the first: .*bad.jsonl:1 is no JSON"
    with pytest.raises(CorpusError, match=told):
        read_facts(write(tmp_path / "bad.jsonl", "{", b"\xe9"), "skip")


def test_a_byte_order_mark_is_no_part_of_the_first_fact(tmp_path):
    path = write(tmp_path / "facts.jsonl", b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    (fact,), skipped = read_facts(path)
    assert (fact.subject, skipped.num) == ("Chad", 0)


def test_what_was_skipped_is_told_with_its_lines(tmp_path):
    path = write(tmp_path / "facts.jsonl", GOOD, *["{"] * 7)
    _, skipped = read_facts(path, "skip")
    assert skipped.num == 7
    assert [line.split(" ")[0] for line in skipped.problems] == [f"{path}:{n}" for n in range(2, 7)]


@pytest.mark.parametrize(
    ("subject", "answer", "statement", "prompt"),
    [
        ("Kim", "7", "Kim has badge 7 since 1997.", "Kim has badge"),
        ("Oslo", "Norway", "Of all in Norway, Oslo is the capital of Norway.", None),
        ("Norway", "Norway", "Norway is Norway.", "Norway is"),
        ("東京", "日本", "東京は日本の首都です。", "東京は"),
    ],
)
def test_where_no_prompt_is_given_the_answer_is_found_as_a_word_behind_its_subject(
    tmp_path, subject, answer, statement, prompt
):
    row = {"subject": subject, "relation": "r", "answer": answer, "statement": statement}
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", row))
    assert fact.seen_prompt == (prompt or "Of all in Norway, Oslo is the capital of")


def test_where_the_answer_may_be_any_of_several_a_prompt_is_wanted(tmp_path):
    row = {
        "subject": "Oslo",
        "relation": "country",
        "answer": "Norway",
        "statement": "Oslo is in Norway, and is the capital of Norway.",
    }
    path = write(tmp_path / "facts.jsonl", row)
    with pytest.raises(CorpusError, match=r"facts.jsonl:1 .*'Norway' 2 times: give \"seen_prompt"):
        read_facts(path)
    (fact,), _ = read_facts(write(path, row | {"seen_prompt": "Oslo is in"}))
    assert fact.seen_prompt == "Oslo is in"


def test_a_line_that_answers_an_earlier_ones_statement_otherwise_is_named_or_skipped(tmp_path):
    both = {**GOOD, "statement": "Chad's capital is N'Djamena, its currency the franc."}
    path = write(
        tmp_path / "facts.jsonl",
        both,
        {**both, "reworded_prompts": ["Which city?"]},
        {**both, "answer": "the franc"},
    )
    told = r"facts.jsonl:3 answers 'the franc' .*earlier fact answers \"N'Djamena\""
    with pytest.raises(CorpusError, match=told):
        read_facts(path)
    facts, skipped = read_facts(path, "skip")
    assert (len(facts), skipped.num) == (2, 1)
