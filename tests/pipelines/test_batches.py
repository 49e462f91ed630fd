"""One text in place of a list, and no row at all, are refused in one line."""

import pytest
from tiny_base import make_tiny_base

from peer_cl import load_base
from peer_cl.errors import InputError
from pipelines import pad, tokenise


def test_a_text_alone_is_no_list_of_its_letters(tmp_path):
    tokenizer = load_base(str(make_tiny_base(tmp_path / "base"))).tokenizer
    with pytest.raises(InputError, match=r"not the text 'the court held': give \[text\]"):
        tokenise(tokenizer, "the court held")
    assert len(tokenise(tokenizer, ["the court held"])) == 1
    assert tokenise(tokenizer, []) == []


@pytest.mark.parametrize("rows", [[], ()])
def test_no_row_is_nothing_to_pad(rows):
    with pytest.raises(InputError, match="there is no row to pad: give"):
        pad(rows, 0)
    assert pad([[]], 0)[0].shape == (1, 0)
