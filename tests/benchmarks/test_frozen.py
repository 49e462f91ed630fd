import json
import re

import pytest

from benchmarks import corpora
from benchmarks.corpora.frozen import FOLDER, document_key, frozen
from benchmarks.corpora.questions import general_prompts, naming_sentences, paraphrases
from peer_cl.errors import CorpusError
from pipelines.facts import FRAMES, Fact, folded_wording
from pipelines.relations import KEY_FRAMES, relations

WORD = re.compile(r"\w+(?:'\w+)?")


def runs(text, n=4):
    words = WORD.findall(text.replace("{subject}", " ").lower())
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def test_each_domain_has_three_sides_and_a_hundred_facts():
    names = list(json.loads((FOLDER / "stream.json").read_text()))
    assert len(names) == 8
    for name in names:
        kept = frozen(name)
        assert len(set(kept.facts)) == 100
        assert set(kept.splits.values()) == {"train", "validation", "test"}
        assert all(kept.splits[key] == "test" for key in kept.scored)


def test_a_frozen_document_that_is_gone_is_an_error():
    with pytest.raises(CorpusError, match="lore: 500 of its frozen"):
        frozen("lore").choose(([], []), "lore")


def test_no_paraphrase_shares_four_words_with_a_sentence_that_is_trained_for_any_relation():
    spaced = [text for one in relations() for text in (one.taught, *one.paraphrases)]
    trained = set().union(*(runs(one) for one in (*FRAMES, *KEY_FRAMES, *spaced)))
    named = naming_sentences([Fact("{subject}", "", "", "", "")])
    assert not trained & set().union(*map(runs, named))
    for name in corpora.NAMES:
        for wordings in paraphrases(name).values():
            assert len(wordings) == len(set(wordings)) == 6
            assert all(wording.count("{subject}") == 1 for wording in wordings)
            assert not trained & set().union(*map(runs, wordings))
            assert not set(map(folded_wording, wordings)) & set(map(folded_wording, spaced))


def test_prompts_of_no_domain():
    general = general_prompts()
    assert len(general) == 200
    assert sum(one.rare is None for one in general) == 100
    assert all(one.rare.lower() in one.prompt.lower() for one in general if one.rare)
    facts = [Fact(f"thing {n}", "is", "b", "", "", ()) for n in range(30)]
    sentences = naming_sentences(facts)
    assert len(sentences) == 240
    assert sentences == naming_sentences(facts[::-1])


@pytest.mark.smollm2
@pytest.mark.parametrize("name", corpora.NAMES)
def test_packages_give_the_frozen_texts_and_facts(name):
    domain = corpora.load(name)
    assert {document_key(one) for one in domain.documents} == set(frozen(name).splits)
    taught = {fact.taught_prompt.replace(fact.subject, "{subject}", 1) for fact in domain.facts}
    trained = set().union(*map(runs, taught))
    for wordings in paraphrases(name).values():
        assert not trained & set().union(*map(runs, wordings))
