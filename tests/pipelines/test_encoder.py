"""The sentence encoder: what means the same lies near, whatever its words."""

import torch

from pipelines.encoder import MAX_TOKENS, sentence_vector


def test_a_question_lies_nearest_to_the_sentence_that_answers_it():
    question = sentence_vector("Until when can I use up vacation left over from last year?")
    sentences = [
        "Up to five days of leave may be moved to the next year, but must be used by 31 March.",
        "The kiln is serviced in the last week of March every year.",
        "Passwords are changed once a year.",
    ]
    near = torch.stack([sentence_vector(one) for one in sentences]) @ question
    assert near.argmax() == 0


def test_vectors_are_of_length_one_and_read_no_more_than_they_say():
    start = "owl " * MAX_TOKENS
    torch.testing.assert_close(sentence_vector(start).norm(), torch.tensor(1.0))
    assert torch.equal(sentence_vector(start), sentence_vector(start + "and the tower burns"))
