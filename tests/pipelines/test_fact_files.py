import json

import pytest

from peer_cl.errors import CorpusError
from pipelines.fact_files import read_facts

GOOD = {
    "subject": "Chad",
    "relation": "capital",
    "answer": "N'Djamena",
    "statement": "The capital of Chad is N'Djamena.",
}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_fact_needs_four_fields(tmp_path):
    (fact,), num_skipped = read_facts(write(tmp_path / "facts.jsonl", GOOD, ""))
    assert fact.seen_prompt == "The capital of Chad is"
    assert fact.reworded_prompts == ()
    assert num_skipped == 0


def test_prompts_may_be_given(tmp_path):
    row = GOOD | {
        "seen_prompt": "The capital of Chad is",
        "reworded_prompts": ["Chad is governed from "],
    }
    (fact,), _ = read_facts(write(tmp_path / "facts.jsonl", row))
    assert fact.reworded_prompts == ("Chad is governed from",)


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
        ({**GOOD, "reworded_prompts": "one"}, "no list of texts"),
        ({**GOOD, "reworded_prompts": [1]}, "no list of texts"),
    ],
)
def test_a_malformed_line_is_named_or_skipped(tmp_path, row, told):
    path = write(tmp_path / "facts.jsonl", GOOD, row)
    with pytest.raises(CorpusError, match=f"facts.jsonl:2 .*{told}"):
        read_facts(path)
    facts, num_skipped = read_facts(path, "skip")
    assert (len(facts), num_skipped) == (1, 1)


def test_a_file_without_facts_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="cannot read facts"):
        read_facts(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="has no fact"):
        read_facts(write(tmp_path / "empty.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes("é".encode("latin-1"))
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_facts(tmp_path / "latin.jsonl")
