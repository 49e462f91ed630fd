"""Chats: what a base reads of one, through its own template."""

import pytest

from pipelines.chat import chat_ids

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def tokenizer(measured):
    _, found = measured[0].load()
    yield found
    found.chat_template = None


def test_a_chat_is_read_through_the_bases_template(tokenizer):
    turns = [{"role": "user", "content": "Which court?"}]
    assert chat_ids(tokenizer, turns) is None  # this base has no template of its own
    tokenizer.chat_template = TEMPLATE
    text = "[user]Which court?\n[assistant]"
    assert chat_ids(tokenizer, turns) == tokenizer(text, add_special_tokens=False).input_ids
