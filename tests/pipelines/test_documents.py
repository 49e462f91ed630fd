import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.documents import SourceDocument, document_id, normalised_text


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalised_text(normalised_text(text)) == normalised_text(text)


@given(st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=("Cs",))))
@example("0\n0")
def test_the_id_ignores_line_ends_outer_blanks_and_composition(text):
    same = unicodedata.normalize("NFD", " " + text.replace("\n", "\r\n") + "\n")
    assert document_id(same) == document_id(text)


@given(st.text(alphabet="abc \n"), st.text(alphabet="abc \n"))
def test_ids_are_equal_exactly_when_the_texts_are(first, second):
    is_same = normalised_text(first) == normalised_text(second)
    assert (document_id(first) == document_id(second)) is is_same


def test_a_documents_id_is_of_its_text_alone():
    first = SourceDocument("Quartz.", "a", "b")
    assert first.document_id == SourceDocument("Quartz.", "c", "d", kind="fact").document_id
    assert len(first.document_id) == 64
