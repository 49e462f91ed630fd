"""Encoders: what means the same lies near, whatever its words."""

import pytest
import torch

from peer_cl.errors import InputError
from pipelines.encoder import MAX_TOKENS, MINILM, checked_encoder, vector_of, vectors_of


def test_a_question_lies_nearest_to_the_sentence_that_answers_it():
    question = vector_of(MINILM, "Until when can I use up vacation left over from last year?")
    sentences = [
        "Up to five days of leave may be moved to the next year, but must be used by 31 March.",
        "The kiln is serviced in the last week of March every year.",
        "Passwords are changed once a year.",
    ]
    assert (vectors_of(MINILM, sentences).float() @ question).argmax() == 0


def test_vectors_are_of_length_one_and_read_no_more_than_they_say():
    start = "owl " * MAX_TOKENS
    torch.testing.assert_close(vector_of(MINILM, start).norm(), torch.tensor(1.0))
    assert torch.equal(vector_of(MINILM, start), vector_of(MINILM, start + "and the tower burns"))


def test_an_encoder_that_nobody_can_load_is_refused(monkeypatch):
    pytest.importorskip("sentence_transformers", reason="the extra encoders is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot load the encoder 'nobody/none'"):
        checked_encoder("nobody/none")


@pytest.mark.smollm2
def test_the_default_encoder_comes_out_of_its_packages():
    from pipelines.encoder import MPNET

    asked = vector_of(MPNET, "who do I ring when the lift is stuck")
    near = vectors_of(
        MPNET, ["Engineers on call answer at 200 when an elevator halts.", "Lifts are grey."]
    )
    assert near.shape == (2, 768)
    assert (near.float() @ asked).argmax() == 0
