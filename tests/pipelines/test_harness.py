"""A store as lm-evaluation-harness calls a model."""

import json

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from tiny_base import SUBJECTS, sentences

from peer_cl.errors import UnknownError
from peer_cl.read import read
from pipelines import open_store, tokenise
from pipelines.harness import StoreModel


@pytest.fixture(scope="module")
def harness(tiny_store):
    with open_store(tiny_store) as store:
        yield StoreModel(store)


def _requests(kind, *all_args):
    return [Instance(kind, {}, args, number) for number, args in enumerate(all_args)]


def _text():
    return sentences("medicine", 1, seed=3)[0]


def test_a_continuation_is_told_as_the_mixture_reads_it_behind_its_context(harness):
    context, continuation = _text(), " the doctor must treat"
    ids = tokenise(harness.tokenizer, [context + continuation])[0]
    start = len(tokenise(harness.tokenizer, [context])[0])
    expected = {}
    for way, domains in (("routed", None), ("base", []), ("medicine", ["medicine"])):
        harness.way = way
        ((told, is_greedy),) = harness.loglikelihood(
            _requests("loglikelihood", (context, continuation))
        )
        reading = read(
            harness.model,
            torch.tensor([ids]),
            routing="prompt",
            domains=domains,
            prompt_lengths=torch.tensor([start]),
        )
        expected[way] = float(reading.mixture_log_probs_BT[0, start:].sum())
        assert told == pytest.approx(expected[way])
        assert not is_greedy
    assert expected["medicine"] > expected["base"]
    harness.way = "routed"


def test_what_is_written_greedily_is_told_to_be_greedy_in_any_batch(harness):
    harness.way = "base"
    texts = [_text(), "A", "Quartz is a hard crystal"]
    written = harness.generate_until(
        _requests("generate_until", *((text, {"max_gen_toks": 4, "until": []}) for text in texts))
    )
    pairs = [(text, more) for text, more in zip(texts, written, strict=True) if more]
    assert pairs
    told = harness.loglikelihood(_requests("loglikelihood", *pairs))
    alone = [harness.loglikelihood(_requests("loglikelihood", pair))[0] for pair in pairs]
    for (found, is_greedy), (expected, _) in zip(told, alone, strict=True):
        assert is_greedy
        assert found == pytest.approx(expected, abs=1e-3)
    harness.way = "routed"


def test_writing_ends_before_a_stop_string(harness):
    harness.way = "base"
    ((whole), (cut)) = harness.generate_until(
        _requests(
            "generate_until",
            (_text(), {"max_gen_toks": 8}),
            (_text(), {"max_gen_toks": 8, "until": [":"]}),
        )
    )
    harness.way = "routed"
    assert whole.split(":")[0] == cut
    assert ":" not in cut


def test_a_text_longer_than_the_context_is_read_in_pieces_and_every_token_counts_once(harness):
    harness.way = "base"
    long = " ".join(sentences("prose", 60, seed=2))
    num_tokens = len(tokenise(harness.tokenizer, [long])[0])
    assert num_tokens > harness.model.config.max_position_embeddings
    (told,) = harness.loglikelihood_rolling(_requests("loglikelihood_rolling", (long,)))
    harness.way = "routed"
    # A random base gives each token about the same: one over the vocabulary.
    assert told / num_tokens == pytest.approx(-torch.tensor(400.0).log().item(), rel=0.2)


def test_a_local_task_is_evaluated_by_the_harness_itself(harness, tmp_path):
    path = tmp_path / "task.jsonl"
    rows = [
        {"query": _text(), "choices": [" Quartz", f" {word}"], "gold": 1}
        for word in SUBJECTS["medicine"].split()[:4]
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = {
        "task": "local",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    results = simple_evaluate(harness, tasks=[task], bootstrap_iters=0)["results"]
    assert 0 <= results["local"]["acc,none"] <= 1


def test_a_domain_that_does_not_exist_is_named(harness):
    harness.way = "astrology"
    with pytest.raises(UnknownError, match="astrology"):
        harness.loglikelihood(_requests("loglikelihood", ("a", " b")))
    harness.way = "routed"
