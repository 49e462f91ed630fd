"""The names that users may rely on: a new one is a line here, one less is a breaking change."""

import importlib

import pytest

SURFACE = {
    "peer_cl": """
        Background Base BaseIdentity ExpertPool Hooks ModelStatus PeerLayer PeerModel PoolOptimiser
        PoolShape PromptWeights Reading RouterKey Segment load_base register_decoder weigh_prompt
        BaseMismatchError ChangedError CorpusError DamageError FrozenError InputError PeerError
        ShapeError StateError StoreFormatError StoreLockedError UnknownError UnsupportedError
    """,
    "stores": """
        NewDocument NewScore NewSegment ObjectStore Queries Registry StoreConfig changes
    """,
    "pipelines": """
        Columns Fact Relation SourceDocument Store TrainingSettings init_store open_store pad
        read_corpus tokenise
    """,
}
VERBS = {
    "peer_cl.PeerModel": """
        active_pools add_pool branch can_generate check_active config delete_pool detach device
        disable_pool forward from_pretrained frozen_base generate generation_config
        get_model_status items key load_pool lowest_layer
        new_segment pool print_trainable_parameters save_pretrained score set_pool train
        trainable_parameters
    """,
    "pipelines.Store": """
        ask calibrate close disable doctor enable erase evaluate experts freeze ingest load
        load_base purge remove restore roll_back roll_back_to search trace unfreeze verify
    """,
}


@pytest.mark.parametrize("package", SURFACE)
def test_the_public_names_are_pinned_and_there(package):
    module, names = importlib.import_module(package), SURFACE[package].split()
    assert sorted(module.__all__) == sorted(names)
    assert [name for name in names if getattr(module, name, None) is None] == []
    assert set(names) <= set(dir(module))


@pytest.mark.parametrize("name", VERBS)
def test_the_verbs_are_pinned(name):
    package, _, kind = name.partition(".")
    public = vars(getattr(importlib.import_module(package), kind))
    verbs = [verb for verb in public if not verb.startswith("_")]
    assert sorted(verbs) == sorted(VERBS[name].split())
