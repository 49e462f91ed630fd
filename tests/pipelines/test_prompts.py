from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompts import completion_prompt


@given(st.text(min_size=1).filter(str.strip), st.integers(1, 20))
def test_prompt_and_rest_are_the_document(text, max_words):
    prompt, rest = completion_prompt(text, max_words=max_words)
    assert prompt + rest == text.strip()
    assert prompt
    assert prompt == prompt.rstrip()
    assert len(prompt.split()) <= max_words


def test_a_short_document_leaves_most_of_itself_to_the_rest():
    assert completion_prompt("one two three four five") == ("one two", " three four five")
