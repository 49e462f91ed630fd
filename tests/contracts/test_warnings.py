import warnings

import pytest

OURS = ["peer_cl", "stores.schema", "pipelines.ingest", "app.cli", "benchmarks", "tools.readme"]


@pytest.mark.parametrize("module", OURS)
def test_a_warning_of_our_own_code_is_an_error(module):
    with pytest.raises(UserWarning, match="something is off"):
        warnings.warn_explicit("something is off", UserWarning, "file.py", 1, module)


@pytest.mark.parametrize("module", ["torch", "application", "somebody.peer_cl"])
def test_a_warning_of_other_code_is_not(module):
    with pytest.warns(UserWarning, match="something is off"):
        warnings.warn_explicit("something is off", UserWarning, "file.py", 1, module)
