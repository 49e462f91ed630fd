"""The names that users may rely on: a new one is a line here, one less is a breaking change."""

import importlib

import pytest

SURFACE = {
    "peer_cl": """
        Background Base BaseIdentity ExpertPool ModelStatus PeerCache PeerLayer PeerModel PoolShape
        Scores Segment Signature load_base
        BaseMismatchError BusyError ChangedError CorpusError DamageError DomainNameError FrozenError
        InputError PeerError ShapeError StateError StoreFormatError StoreLockedError UnknownError
        UnsupportedError
    """,
    "stores": """
        Document DocumentUse DomainDetail DomainState DomainSummary Event ExpertUse Finding HeldBy
        Job NewDocument NewJob NewRun NewScore NewSegment NewUse ObjectStore PurgeResult Registry
        Run Segment Snapshot StoreConfig StoreLayout compress_text decompress_text put_texts
    """,
    "pipelines": """
        Fact Relation Rewordings SourceDocument Store TrainingSettings init_store open_store pad
        tokenise
    """,
}

VERBS = {
    "peer_cl.PeerModel": """
        active_pools add_pool asked branch_logits check_askable config delete_pool detach device
        disable_pool dtype forward from_pretrained frozen_base generate get_model_status load_pool
        new_segment pool print_trainable_parameters save_pretrained score set_pool train
        trainable_parameters
    """,
    "pipelines.Store": """
        bring_back close disable enable erase_exact erase_masked evaluate experts freeze ingest load
        load_base purge restore roll_back search trace unfreeze
    """,
}


@pytest.mark.parametrize("package", SURFACE)
def test_the_public_names_are_pinned(package):
    assert sorted(importlib.import_module(package).__all__) == sorted(SURFACE[package].split())


@pytest.mark.parametrize("package", SURFACE)
def test_the_public_names_are_listed_and_there(package):
    module = importlib.import_module(package)
    assert set(SURFACE[package].split()) <= set(dir(module))
    assert None not in [getattr(module, name, None) for name in SURFACE[package].split()]


@pytest.mark.parametrize("name", VERBS)
def test_the_verbs_are_pinned(name):
    package, _, kind = name.partition(".")
    public = vars(getattr(importlib.import_module(package), kind))
    verbs = [verb for verb in public if not verb.startswith("_")]
    assert sorted(verbs) == sorted(VERBS[name].split())
