import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_base import make_tiny_base
from transformers import AutoTokenizer

from peer_cl.errors import CorpusError, InputError
from pipelines.batches import (
    Batch,
    Row,
    group_by_length,
    mean_loss,
    pad,
    pieces,
    plan_steps,
    predicts,
    sentence_begins,
    tokenise,
)


def test_texts_become_ids_after_a_start_token(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_base(tmp_path / "base"))
    (row,) = tokenise(tokenizer, ["the court held"])
    assert row[0] == tokenizer.bos_token_id
    assert tokenizer.decode(row[1:]) == "the court held"
    assert tokenise(tokenizer, []) == []
    with pytest.raises(InputError, match=r"not the text 'the court held': give \[text\]"):
        tokenise(tokenizer, "the court held")
    with pytest.raises(CorpusError, match="has no token"):
        tokenise(tokenizer, ["the", ""])


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.integers(2, 8),
    st.lists(st.integers(1, 41)),
)
def test_pieces_hold_every_token_once_and_begin_alike(tokens, max_tokens, begins):
    found = pieces([0, *tokens], max_tokens, begins)
    assert [token for piece in found for token in piece[1:]] == tokens
    assert all(piece[0] == 0 and len(piece) <= max_tokens for piece in found)


def test_long_texts_are_cut_where_a_sentence_begins(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_base(tmp_path / "base"))
    text = "The court held the contract void. The tenant owed no rent.\nA fever may show."
    (ids,) = tokenise(tokenizer, [text])
    begins = sentence_begins(tokenizer, text)
    most = begins[0] + 2  # the first sentence, and two tokens more
    texts = [tokenizer.decode(one[1:]).strip() for one in pieces(ids, most, begins)]
    assert texts[0] == "The court held the contract void."
    assert texts[1].startswith("The tenant")


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=5))
def test_padding_keeps_rows_and_masks_the_rest(rows):
    ids_BT, mask_BT = pad(rows, 0)
    assert [ids[mask.bool()].tolist() for ids, mask in zip(ids_BT, mask_BT, strict=True)] == rows
    assert not ids_BT[mask_BT == 0].any()


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 60))
def test_groups_hold_every_row_once_within_the_width(lengths, width):
    groups = group_by_length(lengths, width)
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[n] for n in group) <= width


def rows_of(num=12):
    return [Row(f"t{n}", tuple(range(5 + n))) for n in range(num)]


@given(st.integers(0, 9), st.floats(0.5, 3))
def test_a_plan_reads_each_row_as_often_as_asked_and_repeats_exactly(seed, passes):
    steps = plan_steps(rows_of(), passes, 40, seed)
    assert steps == plan_steps(rows_of(), passes, 40, seed)
    read = Counter(number for step in steps for number in step)
    assert all(read[n] in (int(passes), int(passes) + 1) for n in range(12))


def test_a_short_run_is_prolonged_and_an_empty_one_stays_empty():
    rows = rows_of(3)
    assert len(plan_steps(rows, 1.0, 160, 0)) == 1
    steps = plan_steps(rows, 1.0, 160, 0, min_steps=30)
    assert 30 <= len(steps) < 45
    all_once = sum(len(row.ids) for row in rows)
    assert all(len(step) * max(len(rows[n].ids) for n in step) <= all_once for step in steps)
    assert plan_steps([], 1.0, 160, 0, min_steps=30) == []


def test_the_loss_is_the_mean_over_all_tokens_that_are_predicted():
    ids_BT, mask_BT = pad([(0, 1, 2, 3), (0, 2)], 0)
    batch = Batch(ids_BT, mask_BT, (0, 1))
    places = predicts(mask_BT).nonzero().tolist()
    assert places == [[0, 0], [0, 1], [0, 2], [1, 0]]
    logits_XV = torch.zeros(4, 10)
    logits_XV[torch.arange(4), torch.tensor([1, 2, 3, 2])] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    nats = [math.log(9 + math.exp(right)) - right for right in (0.0, 1.0, 2.0, 3.0)]
    assert mean_loss(logits_XV, batch).item() == pytest.approx(sum(nats) / 4)
