"""The space of relations: wordings of one relation lie together, sentences that name far off."""

from dataclasses import dataclass

import pytest
import torch
from tiny_base import background, make_tiny_base

from peer_cl.bases import load_base
from peer_cl.hooks import Hooks
from pipelines.batches import tokenise
from pipelines.relations import (
    KEY_FRAMES,
    MOST_NAMING,
    background_prompts,
    fit_space,
    read_prompts,
    relations,
    subject_span,
    subject_spellings,
)

LAYERS = (2,)
NUM_FIT, NUM_NEW = 1500, 500
PROMPTS = background_prompts(background(), NUM_FIT + NUM_NEW)
FIT, NEW = PROMPTS[:NUM_FIT], PROMPTS[NUM_FIT:]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


def test_each_relation_has_several_wordings_that_hold_the_subject_once():
    known = relations()
    assert len({relation.name for relation in known}) == len(known)
    for relation in known:
        wordings = {relation.taught, *relation.paraphrases}
        assert len(wordings) == 1 + len(relation.paraphrases) >= 4
        assert all(one.count("{subject}") == 1 for one in wordings)


def test_prompts_are_the_same_each_time_and_some_only_name_a_subject():
    assert background_prompts(background(), NUM_FIT) == FIT
    assert background_prompts(background()[::-1], NUM_FIT) != FIT
    naming = [one for one in PROMPTS if one.relation is None]
    assert len(naming) / len(PROMPTS) == pytest.approx(0.3, abs=0.05)
    drawn = {one.relation for one in PROMPTS} - {None}
    assert drawn <= set(range(len(relations())))
    assert len(drawn) > 0.9 * len(relations())
    assert all(one.subject in one.text for one in PROMPTS)


@dataclass
class Fitted:
    """A space, and where prompts lie in it that it was not made from."""

    threshold: float
    keys: dict[int, torch.Tensor]
    """Of each relation that was held out, some prompts that the threshold was set by."""
    asking: dict[int, torch.Tensor]
    naming: torch.Tensor


@pytest.fixture(scope="module")
def fitted(base):
    states_N2X = read_prompts(Hooks(base.model), base.tokenizer, PROMPTS, LAYERS)
    space = fit_space(states_N2X[:NUM_FIT], FIT, LAYERS)
    again = fit_space(states_N2X[:NUM_FIT], FIT, LAYERS)
    assert all(map(torch.equal, space.to_tensors().values(), again.to_tensors().values()))
    points_NE = space.points(states_N2X[:, 0], states_N2X[:, 1])

    def of(prompts, points_NE, relation):
        return points_NE[torch.tensor([one.relation == relation for one in prompts])]

    held = range(round(0.15 * len(relations())))
    return Fitted(
        space.threshold,
        {number: of(FIT, points_NE[:NUM_FIT], number)[: 1 + len(KEY_FRAMES)] for number in held},
        {number: of(NEW, points_NE[NUM_FIT:], number) for number in held},
        of(NEW, points_NE[NUM_FIT:], None),
    )


def test_wordings_of_a_relation_that_was_held_out_lie_nearer_than_sentences_that_name(fitted):
    num_nearer = 0
    for number, asking_AE in fitted.asking.items():
        together = asking_AE @ fitted.keys[number].T
        apart = fitted.naming @ fitted.keys[number].T
        num_nearer += bool(together.mean() > apart.mean()) if len(asking_AE) else 1
    assert num_nearer >= 0.9 * len(fitted.asking)


def test_few_naming_sentences_reach_the_threshold_and_most_that_ask(fitted):
    def reaching(points_XE, number):
        return ((points_XE @ fitted.keys[number].T).amax(1) >= fitted.threshold).float()

    naming = torch.cat([reaching(fitted.naming, number) for number in fitted.keys])
    asking = torch.cat([reaching(own, number) for number, own in fitted.asking.items()])
    assert naming.mean().item() <= MOST_NAMING + 0.03
    assert asking.mean().item() > 0.4


def test_a_subject_is_spelled_as_texts_may_write_it(base):
    def spelled(subject):
        return {base.tokenizer.decode(ids) for ids in subject_spellings(subject, base.tokenizer)}

    expected = {"Burkina Faso", "burkina faso"}
    assert spelled("Burkina Faso") == expected | {f" {one}" for one in expected}
    expected = {"the court (law)", "The court (law)", "the court", "The court"}
    assert spelled("the court (law)") == expected | {f" {one}" for one in expected}
    assert {" court", "court"} <= spelled("court")
    # One token in a sentence: it counts only as it is written.
    assert len(base.tokenizer(" court").input_ids) == 1
    assert " Court" not in spelled("court")


def test_the_span_of_a_subject_is_where_it_stands(base):
    for prompt in PROMPTS[:300]:
        begin, end = subject_span(base.tokenizer, prompt.text, prompt.subject)
        (ids,) = tokenise(base.tokenizer, [prompt.text])
        found = base.tokenizer.decode(ids[begin:end])
        assert prompt.subject in found
        assert len(found.strip()) <= len(prompt.subject) + 2  # a sign may be of its last token
    assert subject_span(base.tokenizer, "The court held", "tenant") == (0, 0)
