"""An answer counts where greedy decoding, with the branch that writes, writes it."""

import pytest
import torch
from tiny_store import FACTS

from pipelines.progress import no_progress
from pipelines.recall import answer, questions, recall


@pytest.fixture(scope="module")
def asked(measured):
    store, _ = measured
    model, tokenizer = store.load()
    found = questions(tokenizer, "minerals", FACTS)
    return model, tokenizer, found, answer(model, found, no_progress)


def test_each_wording_is_a_question_that_ends_where_the_answer_begins(asked):
    _, tokenizer, found, _ = asked
    assert [q.wording for q in found] == ["taught"] * 3 + ["paraphrase"] * 3
    prompt = tokenizer.decode(found[0].ids[1 : found[0].num_prompt])
    assert prompt == FACTS[0].taught_prompt
    assert tokenizer.decode(found[0].ids[found[0].num_prompt :]).strip() == FACTS[0].answer


def test_answers_are_what_greedy_decoding_writes(asked):
    model, _, found, answers = asked
    for question, one in zip(found, answers, strict=True):
        prompt = torch.tensor([question.ids[: question.num_prompt]])
        wanted = list(question.ids[question.num_prompt :])
        written = {}
        for name, options in {
            "base": {"domains": []},
            "oracle": {"domains": ["minerals"], "oracle": True},
            "routed": {},
        }.items():
            ids = model.generate(prompt, max_new_tokens=len(wanted), do_sample=False, **options)
            written[name] = ids[0, question.num_prompt :].tolist() == wanted
        assert written == {"base": one.base, "oracle": one.oracle, "routed": one.routed}
    assert any(one.oracle and not one.base for one in answers), "something was learned"


def test_rows_are_shares_by_domain_and_wording(asked):
    model, _, found, answers = asked
    taught, paraphrase = recall(model, found, no_progress)
    assert (taught.wording, taught.num, paraphrase.wording) == ("taught", 3, "paraphrase")
    assert taught.oracle == sum(one.oracle for one in answers[:3]) / 3
