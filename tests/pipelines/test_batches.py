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
    next_weights,
    pad,
    pieces,
    plan_steps,
    target_weights,
    tokenise,
    weighted_loss,
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


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(2, 8))
def test_pieces_hold_every_token_once_and_begin_alike(tokens, max_tokens):
    found = pieces([0, *tokens], max_tokens)
    assert [token for piece in found for token in piece[1:]] == tokens
    assert all(piece[0] == 0 and len(piece) <= max_tokens for piece in found)


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


def rows_of(num_texts=12, num_facts=4):
    texts = [Row(f"t{n}", "text", tuple(range(5 + n))) for n in range(num_texts)]
    return texts + [Row(f"f{n}", "fact", tuple(range(4))) for n in range(num_facts)]


@given(st.integers(0, 9), st.floats(0.5, 3), st.integers(1, 9))
def test_a_plan_reads_each_kind_as_often_as_asked_and_repeats_exactly(seed, texts, facts):
    rows, passes = rows_of(), {"text": texts, "fact": float(facts)}
    steps = plan_steps(rows, passes, 40, seed)
    assert steps == plan_steps(rows, passes, 40, seed)
    read = Counter(number for step in steps for number in step)
    assert all(read[n] in (int(texts), int(texts) + 1) for n in range(12))
    assert all(read[n] == facts for n in range(12, 16))


def test_a_short_run_is_prolonged_and_an_empty_one_stays_empty():
    rows, passes = rows_of(2, 1), {"text": 1.0, "fact": 1.0}
    assert len(plan_steps(rows, passes, 160, 0)) == 1
    steps = plan_steps(rows, passes, 160, 0, min_steps=30)
    assert 30 <= len(steps) < 45
    all_once = sum(len(row.ids) for row in rows)
    assert all(len(step) * max(len(rows[n].ids) for n in step) <= all_once for step in steps)
    assert plan_steps([], passes, 160, 0, min_steps=30) == []


def test_the_loss_is_the_weighted_sum_over_all_tokens_read():
    rows = [
        Row("a", "fact", (0, 1, 2, 3), answer_from=3),
        Row("b", "varied", (0, 2, 1, 5), counts_from=3, answer_from=3, name=(1, 2)),
    ]
    ids_BT, mask_BT = pad([row.ids for row in rows], 0)
    batch = Batch(ids_BT, mask_BT, target_weights(rows, 4, 4.0), (0, 1))
    counted_BT = next_weights(batch) > 0
    assert counted_BT.tolist() == [[True, True, True, False], [True, False, True, False]]
    logits_XV = torch.zeros(5, 10)  # every token costs log 10
    expected = (1 + 1 + 4 + 1 + 4) * torch.log(torch.tensor(10.0)) / (3 + 3)
    assert weighted_loss(logits_XV, batch) == pytest.approx(float(expected))
