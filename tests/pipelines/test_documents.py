import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer_cl.errors import CorpusError
from pipelines.corpora import SourceDocument, checked, document_id, normalised_text


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalised_text(normalised_text(text)) == normalised_text(text)


@given(st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=("Cs",))))
@example("0\n0")
def test_the_id_ignores_line_ends_outer_blanks_and_composition(text):
    same = unicodedata.normalize("NFD", " " + text.replace("\n", "\r\n") + "\n")
    assert document_id(same) == document_id(text)


def test_a_checked_document_is_normalised_in_all_its_texts():
    apart = unicodedata.normalize("NFD", "Café")
    found = checked(SourceDocument(f" {apart}\r\n", apart, apart, section_of=f" {apart}"))
    assert found == SourceDocument("Café", "Café", "Café", section_of="Café")
    assert checked(found) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": " \n"}, "has no text"),
        ({"text": "a\0b"}, "has a NUL character in its text"),
        ({"text": "\ud800"}, r"has half a character .* in its text"),
        ({"title": "\0"}, "NUL character in its title"),
        ({"source": "caf\udce9.txt"}, "half a character .* in its source"),
        ({"section_of": "\ud800"}, "half a character .* in its section_of"),
    ],
)
def test_what_cannot_be_stored_is_refused(fields, message):
    with pytest.raises(CorpusError, match=message):
        checked(SourceDocument(**{"text": "t", "title": "t", "source": "s"} | fields))
