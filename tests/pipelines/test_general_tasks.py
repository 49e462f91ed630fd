"""Sets of general ability: what a file makes, and what is refused with which line."""

import json

import pytest
from tiny_base import make_tiny_base
from transformers import AutoTokenizer

from peer_cl.errors import InputError
from pipelines.general_tasks import CHOICE, CONTINUATION, FILES, TEXT, read_set, read_sets

NUM = 9


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(make_tiny_base(tmp_path_factory.mktemp("base")))


def choice(number, query="Question: {}?\n", **changes):
    row = {"query": query.format(number), "choices": [" an egg", "rain "], "gold": number % 2}
    return row | changes


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """The known public sets, in their usual files."""
    for task in ("PIQA", "ARC-easy"):
        write(tmp_path / FILES[task], [choice(n) for n in range(NUM)])
    write(tmp_path / FILES["HellaSwag"], [choice(n, "She took {}") for n in range(NUM)])
    word = {"context": "It was {} and quiet in the ", "continuation": "garden"}
    words = [word | {"context": word["context"].format(n)} for n in range(NUM)]
    write(tmp_path / FILES["LAMBADA"], words)
    long = "The river was quiet , " * 12
    wiki = [f" The <unk> {n} . {long}\n" for n in range(NUM)] + [" = Head = \n", " It <unk> \n"]
    (tmp_path / FILES["WikiText"]).write_text("".join(wiki), encoding="utf-8")
    return tmp_path


def test_items_say_what_the_files_say(folder, tokenizer):
    sets, left_out = read_sets(folder)
    assert left_out == ()
    found = {one.task: one.items(tokenizer) for one in sets}
    assert {task: len(items) for task, items in found.items()} == dict.fromkeys(FILES, NUM)
    said = {task: tokenizer.decode(items[0].rows[0][1:]) for task, items in found.items()}
    assert said["PIQA"].endswith("?\nAnswer: an egg")
    assert said["HellaSwag"].startswith("She took")
    assert "Answer" not in said["HellaSwag"]
    assert said["LAMBADA"].endswith("quiet in the garden")
    assert "quiet, The river" in said["WikiText"]
    item = found["ARC-easy"][0]
    assert (item.num_characters, item.kind) == ((6, 4), CHOICE)
    ends = [tokenizer.decode(row[item.num_context :]) for row in item.rows]
    assert ends == [" an egg", " rain"]
    assert item.context == item.rows[0][: item.num_context] == item.rows[1][: item.num_context]
    assert found["WikiText"][0].context == found["WikiText"][0].rows[0]


def test_fewer_items_are_a_part_of_more(folder, tokenizer):
    for one in read_sets(folder)[0]:
        few, more = one.items(tokenizer, 3), one.items(tokenizer, 5)
        assert few == more[:3]
        assert len({item.key for item in more}) == 5
    with pytest.raises(InputError, match="at least 1, not 0"):
        one.items(tokenizer, 0)


def test_own_sets_are_named_by_their_files(tmp_path, tokenizer):
    write(tmp_path / "riddles.jsonl", [choice(n, "Riddle {}", by="me") for n in range(3)])
    write(tmp_path / "ends.jsonl", [{"context": "a", "continuation": "b"}])
    (tmp_path / "letters.txt").write_text("Dear\nAnn,\n\n \nit rains.\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("what this is", encoding="utf-8")
    sets, left_out = read_sets(tmp_path)
    kinds = {one.task: one.kind for one in sets}
    assert kinds == {"riddles": CHOICE, "ends": CONTINUATION, "letters": TEXT}
    assert left_out == ()
    letters = next(one for one in sets if one.task == "letters")
    texts = {tokenizer.decode(item.rows[0][1:]) for item in letters.items(tokenizer)}
    assert texts == {"Dear\nAnn,", "it rains."}


def test_too_long_a_context_keeps_its_end(tmp_path, tokenizer):
    write(tmp_path / "long.jsonl", [{"context": "rain " * 2000 + "court", "continuation": "rent"}])
    (item,) = read_set(tmp_path / "long.jsonl").items(tokenizer)
    assert len(item.rows[0]) == 1024
    assert tokenizer.decode(item.rows[0]).endswith("court rent")
    assert item.rows[0][0] == tokenizer.bos_token_id


def test_an_item_whose_ending_leaves_no_room_for_a_context_is_left_out(tmp_path, tokenizer):
    rows = [{"context": "rain " * 99, "continuation": end} for end in ("rent", "rain " * 40)]
    short, long = (len(tokenizer(f" {row['continuation'].strip()}").input_ids) for row in rows)
    ends = read_set(write(tmp_path / "ends.jsonl", rows))
    for most, num in ((short + 1, 0), (short + 2, 1), (long + 1, 1), (long + 2, 2)):
        items = ends.items(tokenizer, max_tokens=most)
        assert [len(item.rows[0]) for item in items] == [most] * num
    write(tmp_path / "riddles.jsonl", [choice(0), choice(1, choices=["rain " * 40, "an egg"])])
    (riddle,) = read_set(tmp_path / "riddles.jsonl").items(tokenizer, max_tokens=long)
    assert all(len(row) <= long for row in riddle.rows)


def test_a_file_of_another_form_is_left_out_of_a_folder_and_refused_alone(folder):
    other = write(folder / "stream.jsonl", [{"domain": "law", "text": "a", "questions": []}])
    (folder / "empty.jsonl").write_text("\n", encoding="utf-8")
    sets, left_out = read_sets(folder)
    assert len(sets) == len(FILES)
    told = "stream.jsonl:1 has the fields domain, text, questions; wanted query, choices, gold"
    assert [line.split(" ")[2] for line in left_out] == ["empty.jsonl", "stream.jsonl:1"]
    assert told in left_out[1]
    with pytest.raises(InputError, match=r"wanted query, .* or context, continuation"):
        read_sets(other)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "2 is no JSON"),
        ("[1]", "2 is no JSON object"),
        ({"context": "a", "continuation": "b"}, "2 has the fields context, continuation; wanted"),
        (choice(1, gold=2), "2 has gold 2 of 2 choices"),
        (choice(1, gold="1"), "2 has gold 1 of 2 choices"),
        (choice(1, gold=True), "2 has gold True of 2"),
        (choice(1, choices=[]), '2 has "choices" that are no list'),
        (choice(1, choices=["a", " "]), '2 has no text in "choices"'),
        (choice(1, query=" "), '2 has no text in "query"'),
        (choice(1, query="\ud800"), "2 has half a character"),
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path, row, told):
    line = row if isinstance(row, str) else json.dumps(row)
    (tmp_path / "own.jsonl").write_text(f"{json.dumps(choice(0))}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"own.jsonl:{told}"):
        read_sets(tmp_path)


def test_what_is_no_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no set at .*none; give a folder or file"):
        read_sets(tmp_path / "none")
    with pytest.raises(InputError, match=r"no set in .*; a set is a jsonl file with query"):
        read_sets(tmp_path)
    (tmp_path / "own.csv").write_text("a,b")
    with pytest.raises(InputError, match=r"own.csv is neither a jsonl nor a txt file"):
        read_sets(tmp_path / "own.csv")
    (tmp_path / "own.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"own.txt is not UTF-8 \(byte 3\)"):
        read_sets(tmp_path)
    (tmp_path / "own.txt").write_text("a text")
    write(tmp_path / "own.jsonl", [choice(0)])
    with pytest.raises(InputError, match=r"are named 'own': rename own\.txt"):
        read_sets(tmp_path)
