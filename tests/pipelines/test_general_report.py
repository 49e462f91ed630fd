"""General ability in an evaluation, against the model itself."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tiny_base import copy_store, make_tiny_store, sentences

from peer_cl.errors import BusyError, InputError
from pipelines import general_report, open_store
from pipelines.general import ItemScore
from pipelines.general_mixture import _apart
from pipelines.general_tasks import CHOICE, GeneralItem, read_sets
from stores import Registry

ASKED, SILENT = "verdicts", "letters"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = make_tiny_store(tmp_path_factory.mktemp("learned"))
    with open_store(copy_store(place, tmp_path_factory.mktemp("own"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sets in the law's words, which ask its pool, and in others."""
    folder = tmp_path_factory.mktemp("sets")
    for name, subject in ((ASKED, "law"), (SILENT, "prose")):
        drawn = sentences(subject, 16, seed=21)
        ends = [text.split(maxsplit=9) for text in drawn]
        rows = [
            {"query": " ".join(words[:9]), "choices": [words[9], "garden", "rent"], "gold": 0}
            for words in ends
        ]
        words = [
            {"context": " ".join(words[:9]), "continuation": words[9].split()[0]} for words in ends
        ]
        for kind, lines in (("choices", rows), ("words", words)):
            content = "".join(json.dumps(row) + "\n" for row in lines)
            (folder / f"{name}-{kind}.jsonl").write_text(content, encoding="utf-8")
        (folder / f"{name}-texts.txt").write_text("\n\n".join(drawn), encoding="utf-8")
    (folder / "other.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    return folder


def evaluated(store, **options):
    return store.evaluate(background=False, with_recall=False, **options)


@pytest.fixture(scope="module")
def report(store, folder):
    return evaluated(store, general=folder, general_items=12)


@pytest.fixture(scope="module")
def rows(report):
    return {row["task"]: row for row in report["general"]}


def test_each_set_has_a_row_and_other_files_are_told(rows, report):
    kinds = {"choices": "choice", "words": "continuation", "texts": "text"}
    assert {task: row["kind"] for task, row in rows.items()} == {
        f"{name}-{what}": kind for name in (ASKED, SILENT) for what, kind in kinds.items()
    }
    assert all(row["items"] == 12 for row in rows.values())
    assert all((row["accuracy"] is None) == (row["kind"] == "text") for row in rows.values())
    assert all((row["loss_nats"] is None) == (row["kind"] != "text") for row in rows.values())
    (line,) = report["general_left_out"]
    assert "other.jsonl:1 has the fields text" in line


def test_where_no_pool_is_asked_nothing_changes(rows):
    silent = [row for task, row in rows.items() if task.startswith(SILENT)]
    for row in silent:
        assert row["asked_items"] == 0, "the tiny base's prose asks nobody"
        assert (row["changed_items"], row["gained"], row["lost"]) == (0, 0, 0)
        assert row["base_accuracy"] == row["accuracy"]
        assert row["base_loss_nats"] == row["loss_nats"]
        low, high = row["difference_interval"]
        assert low <= 0.0 <= high
    assert {row["max_added_nats"] for row in silent} == {None, 0.0}


@pytest.fixture(scope="module")
def loaded(store):
    model, tokenizer = store.load()
    yield model, tokenizer
    model.detach()


def items_of(folder, tokenizer, task):
    (found,) = [one for one in read_sets(folder)[0] if one.task == task]
    return found.items(tokenizer, 12)


@torch.no_grad()
def sums(model, item):
    """Return the log probability of each row after its context: of the mixture, of the base."""
    found = []
    for row in item.rows:
        given = torch.tensor([len(item.context)])
        scores = model.score(torch.tensor([row]), ask="context", context_lengths=given)
        start = item.num_context
        found.append(
            (float(scores.mixture_BT[0, start:].sum()), float(scores.base_BT[0, start:].sum()))
        )
    return found


def test_a_row_that_two_items_divide_otherwise_has_each_items_own_context():
    one, other, third = (0, 5, 6, 7), (0, 5, 6, 8), (0, 9, 9, 9)
    early, late, apart = (
        GeneralItem("choices", CHOICE, key, rows, num_context, (1, 1), 0)
        for key, rows, num_context in (
            ("a", (one, other), 2),
            ("b", (other, third), 3),
            ("c", (third, third), 3),
        )
    )
    assert _apart([early, late, apart]) == [[early, apart], [late]]
    assert _apart([early, early]) == [[early, early]]
    assert _apart([]) == []


def test_choices_are_those_of_the_model_itself(rows, folder, loaded):
    model, tokenizer = loaded
    row, right = rows[f"{ASKED}-choices"], [0, 0]
    items = items_of(folder, tokenizer, f"{ASKED}-choices")
    for item in items:
        for number, nats in enumerate(zip(*sums(model, item), strict=True)):
            each = [n / c for n, c in zip(nats, item.num_characters, strict=True)]
            right[number] += each.index(max(each)) == item.gold
    assert row["asked_items"] > 0
    assert (row["accuracy"], row["base_accuracy"]) == (right[0] / 12, right[1] / 12)
    assert row["gained"] - row["lost"] == right[0] - right[1]


def test_texts_are_those_of_the_model_itself_and_within_the_bound(rows, report, folder, loaded):
    model, tokenizer = loaded
    row = rows[f"{ASKED}-texts"]
    items = items_of(folder, tokenizer, f"{ASKED}-texts")
    found = [sums(model, item)[0] for item in items]
    num_tokens = sum(len(item.rows[0]) - 1 for item in items)
    assert row["asked_items"] > 0
    assert row["loss_nats"] == pytest.approx(-sum(m for m, _ in found) / num_tokens, rel=1e-6)
    assert row["base_loss_nats"] == pytest.approx(-sum(b for _, b in found) / num_tokens, rel=1e-6)
    assert row["max_added_nats"] == pytest.approx(max(b - m for m, b in found), abs=1e-4)
    assert row["max_added_nats"] <= report["bound_nats"] + 1e-6


def test_continuations_are_what_greedy_decoding_writes(rows, folder, loaded):
    model, tokenizer = loaded
    right = 0
    for item in items_of(folder, tokenizer, f"{ASKED}-words"):
        given = torch.tensor([item.context])
        written = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=len(item.rows[0]) - item.num_context,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        right += tuple(written[0].tolist()) == item.rows[0]
    assert rows[f"{ASKED}-words"]["accuracy"] == right / 12


def test_scores_wait_for_a_busy_registry(store, folder, monkeypatch):
    monkeypatch.setattr("stores.patience.PAUSE_SECONDS", 0.0)
    put, tries = Registry.put_scores, []

    def busy_at_first(self, scores):
        tries.append(len(scores))
        if len(tries) == 1:
            raise BusyError("busy")
        put(self, scores)

    monkeypatch.setattr(Registry, "put_scores", busy_at_first)
    monkeypatch.setattr(general_report, "_VERSION", "another")
    told = []
    evaluated(store, general=folder, general_items=2, progress=lambda *news: told.append(news))
    assert tries[0] == tries[1] > 0
    assert ("general ability, the bare base", "busy") in [(news[0], news[3]) for news in told]


def test_the_base_is_never_read_twice(store, report, folder, monkeypatch):
    def read(*_):
        raise AssertionError("the base was read again")

    monkeypatch.setattr(general_report, "read_items", read)
    again = evaluated(store, general=folder, general_items=8)["general"]
    assert [row["items"] for row in again] == [8] * 6
    assert evaluated(store, general=folder, general_items=12)["general"] == report["general"]


def test_rows_are_kept_while_the_same_versions_are_on(store, report):
    assert evaluated(store)["general"] == report["general"]
    store.freeze("law")
    assert evaluated(store)["general"] == report["general"], "freezing changes no answer"
    store.unfreeze("law")
    store.disable("law")
    assert evaluated(store)["general"] == []
    store.enable("law")
    assert evaluated(store)["general"] == report["general"]


def test_a_damaged_report_is_no_hindrance(store, report):
    with Registry.open(store.registry.folder) as registry:
        registry.put_evaluation(registry.live().id, {"general": "words"})
        rows, left_out = general_report.known_rows(registry, registry.live())
    assert (rows, list(left_out)) == (report["general"], report["general_left_out"])


def test_what_holds_no_set_is_refused_before_anything_is_read(store, tmp_path):
    with pytest.raises(InputError, match="no set in"):
        evaluated(store, general=tmp_path)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_text_whose_loss_is_no_number_is_the_worst(order):
    before = [ItemScore("letters", str(n), (-1.0,), num_tokens=3) for n in range(3)]
    after = [
        replace(one, log_probs=(nats,))
        for one, nats in zip(before, (-2.0, math.nan, 0.0), strict=True)
    ]
    assert general_report._worst(before[order], after[order]) == {"letters": math.inf}


def test_items_with_an_ending_that_the_base_cannot_read_are_left_out_and_told(store, tmp_path):
    rows = [
        {"context": "The court held that", "continuation": end}
        for end in ("the contract", "the tenant owed no rent " * 200)
    ]
    (tmp_path / "ends.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluated(store, general=tmp_path)
    assert [row["items"] for row in found["general"]] == [1]
    (line,) = found["general_left_out"]
    assert line.startswith("left out: 1 of 2 items of ends, in which a choice or continuation")
    assert line.endswith(": 512 tokens are read")
    again = evaluated(store)
    assert (again["general"], again["general_left_out"]) == (found["general"], [line])
    (tmp_path / "ends.jsonl").write_text(json.dumps(rows[1]))
    scored = []
    with pytest.raises(InputError, match=r"no item of general .* left out: 1 of 1 items of ends"):
        evaluated(store, general=tmp_path, progress=lambda *told: scored.append(told))
    assert not scored, "it is told before anything is scored"
