"""Passages' own experts: each a function of the passage alone, to the bit, and they learn it."""

from dataclasses import replace

import pytest
import torch
from tiny_base import make_tiny_base
from tiny_store import SETTINGS, documents
from torch.nn import functional

from peer_cl.bases import load_base
from peer_cl.hooks import Hooks
from peer_cl.own import NO_ITEM, load_own
from pipelines.batches import Row, tokenise
from pipelines.encoder import MINILM
from pipelines.forms import question_ids
from pipelines.own_training import SLOTS
from pipelines.passage_training import (
    ANSWER_LENGTHS,
    QUESTION_LENGTH,
    TEXT_LENGTH,
    make_passage,
    train_passages,
)
from pipelines.study.questions import BUILT_IN, OWN

FEW_STEPS = replace(SETTINGS, passage_readings=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


LONG = {0: 5, 3: 10, 5: 20}
"""Words of an answer, by the passage's number."""


@pytest.fixture(scope="module")
def rows(base):
    """Short ones, more than are learned side by side, some without questions, and two long ones.

    Three have a long answer.
    """
    texts = [one.text for one in documents("law", 12, 1)]
    texts += [" ".join(texts[:4]), " ".join(texts[4:9])]
    rows = [Row(f"{n:064x}", tuple(ids)) for n, ids in enumerate(tokenise(base.tokenizer, texts))]
    questions = [(f"Who is {n}?", f"{n} it", "own") for n in range(12)]
    long = {n: [("Who was it?", " ".join(["it"] * times), "own")] for n, times in LONG.items()}
    found = [
        make_passage(base.tokenizer, row, f"Text {n}", questions[: 4 * (n % 4)] + long.get(n, []))
        for n, row in enumerate(rows)
    ]
    assert len(found) > 2 * SLOTS
    assert {one.answer_length for one in found} == set(ANSWER_LENGTHS)
    return found


@pytest.fixture(scope="module")
def trained(base, rows, tmp_path_factory):
    return learn(base, rows, tmp_path_factory.mktemp("trained"))


def learn(base, rows, checkpoints, settings=FEW_STEPS, **options):
    own = train_passages(
        Hooks(base.model),
        rows,
        settings=settings,
        encoder=MINILM,
        checkpoints=checkpoints,
        **options,
    )
    assert [item.item_id for item in own.items] == [row.document_id for row in rows]
    return own


def whole(reading):
    """All tokens of a row."""
    return [*reading.prompt, *reading.ids]


def each(own, base):
    """Return each passage with its experts and key as bytes, by document id."""
    parts = {item.item_id: own.at([place]) for place, item in enumerate(own.items)}
    return {key: one.to_bytes(base.identity) for key, one in parts.items()}


@pytest.mark.parametrize("chosen", [slice(3, 4), slice(None, None, -1), slice(None, None, 2)])
def test_neither_neighbours_nor_place_change_a_bit(base, rows, trained, tmp_path, chosen):
    found, whole = each(learn(base, rows[chosen], tmp_path), base), each(trained, base)
    assert found == {key: whole[key] for key in found}


def test_without_steps_a_passage_has_no_experts_and_is_kept(base, rows, tmp_path):
    own = learn(base, rows, tmp_path, replace(FEW_STEPS, passage_readings=0))
    kept = load_own(own.to_bytes(base.identity), base.identity)
    assert kept.num_experts == 0
    assert [len(one) for one in kept.texts] == [len(one) for one in own.texts]
    inputs_BTD, items_BT = torch.randn(1, 2, kept.width), torch.tensor([[0, NO_ITEM]])
    assert not kept(inputs_BTD, kept.host_layers[0], items_BT).any()
    assert any(item.questions for item in kept.items)  # they still lead to the passage


def test_another_seed_gives_other_experts(base, rows, trained, tmp_path):
    found = each(learn(base, rows[:1], tmp_path, replace(FEW_STEPS, seed=1)), base)
    assert found[rows[0].document_id] != each(trained, base)[rows[0].document_id]


class StoppedError(Exception):
    pass


def test_stopped_behind_a_passage_it_goes_on_to_the_same_bits(base, rows, trained, tmp_path):
    def stop(what, done, total, note):
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        learn(base, rows, tmp_path, progress=stop)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(written) == 2
    assert each(learn(base, rows, tmp_path), base) == each(trained, base)
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())


def test_they_learn_their_passage_and_no_other(base, rows, tmp_path):
    own, hooks = learn(base, rows[-2:], tmp_path, SETTINGS), Hooks(base.model)

    @torch.no_grad()
    def nats(row, item):
        ids_BT = torch.tensor([row.ids])
        with hooks.branch((), own=[own], items_BT=torch.full_like(ids_BT, item)):
            logits_BTV = base.model(input_ids=ids_BT, use_cache=False).logits
        return float(functional.cross_entropy(logits_BTV[0, :-1], ids_BT[0, 1:]))

    for number, row in enumerate(rows[-2:]):
        assert nats(row, number) < nats(row, -1) - 0.1
        assert nats(row, number) < nats(row, 1 - number) - 0.05


def test_a_question_is_learned_in_the_form_in_which_it_is_asked(base, rows):
    prompt, begin, end = question_ids(base.tokenizer, "Who is 3?")
    asked, again = [one for one in rows[3].asked if whole(one)[: len(prompt)] == prompt]
    assert asked == again, "people's questions come twice"
    decode = base.tokenizer.decode
    assert decode(prompt[1:]) == "Question: Who is 3?\nAnswer:"
    assert decode(whole(asked)[len(prompt) :]) == " 3 it\n"
    assert decode(prompt[begin:end]) == " Who is 3?"


def test_passages_answer_their_questions(base, rows, tmp_path):
    passage = rows[3]
    own, hooks = learn(base, [passage], tmp_path, SETTINGS), Hooks(base.model)
    assert own.items[0].questions[0][0] == "Who is 0?"
    for asked in passage.asked:
        ids_BT = torch.tensor([whole(asked)])
        begin, nats = len(asked.prompt), []
        for item in (0, NO_ITEM):
            items_BT = torch.full_like(ids_BT, NO_ITEM)
            items_BT[:, begin:] = item
            with torch.no_grad(), hooks.branch((), own=[own], items_BT=items_BT):
                logits_TV = base.model(input_ids=ids_BT, use_cache=False).logits[0]
            nats.append(functional.cross_entropy(logits_TV[begin:-1], ids_BT[0, begin + 1 :]))
        assert nats[0] < nats[1] - 0.1


def test_a_piece_begins_with_each_sentence_and_all_of_the_text_is_read(base):
    text = "The court of appeal held that. " * 3 + "word " * 60
    (ids,) = tokenise(base.tokenizer, [text])
    passage = make_passage(base.tokenizer, Row("0" * 64, tuple(ids)), "", [])
    decoded = [base.tokenizer.decode(piece[1:]) for piece in passage.texts]
    assert sum(piece.lstrip().startswith("The court of appeal held") for piece in decoded) == 3
    assert max(map(len, passage.texts)) == TEXT_LENGTH
    assert sum(len(piece) - 1 for piece in passage.texts) >= len(ids) - 1


def test_one_made_question_is_kept_to_be_asked_and_never_one_of_people(base):
    (ids,) = tokenise(base.tokenizer, ["The court of appeal held that."])
    row = Row("0" * 64, tuple(ids))

    def passage(*sources):
        asked = [(f"Who is {n}?", f"{n} it", source) for n, source in enumerate(sources)]
        return make_passage(base.tokenizer, row, "", asked)

    few = passage(*[BUILT_IN] * 3)
    assert (len(few.questions), few.kept) == (3, ())
    for num, num_learned in ((4, 3), (9, 4)):
        more = passage(*[BUILT_IN] * num)
        assert (len(more.questions), len(more.kept)) == (num_learned, 1)
        assert more.kept[0] not in more.questions
    assert passage(*[OWN] * 4).kept == ()


def test_no_question_of_people_is_left_out(base):
    (ids,) = tokenise(base.tokenizer, ["The court of appeal held that."])
    long = "held that the court of appeal held " * 9
    asked = [(f"Who is {n}? {long}" if n % 2 else f"Who {n}?", long, OWN) for n in range(30)]
    passage = make_passage(base.tokenizer, Row("0" * 64, tuple(ids)), "", asked)
    assert passage.questions == tuple(asked)
    assert len({one.prompt for one in passage.asked}) > 15
    assert max(len(one.prompt) for one in passage.asked) == QUESTION_LENGTH - 1
    assert {len(one.ids) - 1 for one in passage.asked} == {ANSWER_LENGTHS[-1]}
    made = [(question, answer, BUILT_IN) for question, answer, _ in asked]
    assert make_passage(base.tokenizer, Row("0" * 64, tuple(ids)), "", made).asked == ()
