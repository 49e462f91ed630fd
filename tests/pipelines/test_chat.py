"""Chats: a pipeline of transformers reaches the experts through a chat template, too."""

import pytest
import torch
from transformers import pipeline

from peer_cl.errors import UnsupportedError
from pipelines.chat import question_finder
from pipelines.passage_training import question_ids

TEMPLATE = (
    "{% if messages[0].role != 'system' %}[system]Be brief.\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
UNKNOWN = "zebra quay voyage"


@pytest.fixture(scope="module")
def opened(measured):
    store, _ = measured
    model, tokenizer = store.load()
    assert model.find_question is None  # this base has no template of its own
    tokenizer.chat_template = TEMPLATE
    model.find_question = question_finder(tokenizer)
    yield store, model, tokenizer
    tokenizer.chat_template = None


@pytest.fixture(scope="module")
def learned(opened):
    """A text that law learned."""
    queries = opened[0].registry.queries
    learned = queries.documents("law", split="train")
    return next(queries.document_text(one) for one in learned if one.kind == "text")


def chat(*contents):
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": one} for role, one in zip(roles, contents, strict=False)]


def prompt_ids(tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids


@pytest.mark.parametrize(
    "before", [[], chat("Who?", "Nobody."), [{"role": "system", "content": "Say all."}]]
)
def test_the_last_user_turn_is_the_question(opened, before):
    _, model, tokenizer = opened
    found = model.find_question(prompt_ids(tokenizer, [*before, *chat("Which court?")])[0].tolist())
    ids, begin, end = question_ids(tokenizer, "Which court?")
    assert found.ids_BT.tolist() == [ids]
    assert found.counted_BT.nonzero()[:, 1].tolist() == [*range(begin, end)]


@pytest.mark.parametrize("text", ["Which court?", "[user] [assistant]", "[user]Which court?\n"])
def test_what_no_template_made_is_no_chat(opened, text):
    _, model, tokenizer = opened
    assert model.find_question(tokenizer(text).input_ids) is None
    assert question_finder(type("Plain", (), {"chat_template": None})()) is None


def test_a_chat_is_answered_by_memory(opened, learned):
    store, model, tokenizer = opened
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    how = {"max_new_tokens": 8, "do_sample": False}
    (said,) = write(chat(learned), **how)
    expected = store.ask(
        learned, model=model, tokenizer=tokenizer, way="memory", max_new_tokens=8
    ).text
    assert said["generated_text"][-1]["content"].split("\n")[0].strip() == expected
    with pytest.raises(UnsupportedError, match="return_dict_in_generate"):
        model.generate(prompt_ids(tokenizer, chat(learned)), return_dict_in_generate=True, **how)


def test_what_finds_nothing_is_the_bases_own_and_rows_keep_their_order(opened, learned):
    _, model, tokenizer = opened
    how = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    unknown, known = (prompt_ids(tokenizer, chat(one)) for one in (UNKNOWN, learned))
    own = model.base.generate(unknown, **how)
    assert torch.equal(model.generate(unknown, **how), own)
    width = max(unknown.shape[1], known.shape[1])
    rows = [torch.nn.functional.pad(one, (width - one.shape[1], 0)) for one in (unknown, known)]
    mask_BT = torch.cat([torch.arange(width)[None] >= width - n.shape[1] for n in (unknown, known)])
    both = model.generate(torch.cat(rows), attention_mask=mask_BT.long(), **how)
    alone = model.generate(known, **how)[0, known.shape[1] :]
    assert both[1, width : width + len(alone)].tolist() == alone.tolist()
    assert both[0, width : width + 8].tolist() == own[0, unknown.shape[1] :].tolist()
