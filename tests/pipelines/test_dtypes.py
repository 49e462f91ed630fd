"""A base in fewer bits: it stays as it is, experts learn beside it, and its bits come back."""

import pytest
from tiny_base import background, make_tiny_base
from tiny_store import FACTS, SETTINGS, documents

from peer_cl.bases import DTYPES
from peer_cl.errors import InputError
from pipelines import init_store, open_store
from pipelines.encoder import MINILM


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "int8"])
def test_a_store_on_a_base_in_lower_precision(tmp_path, dtype):
    base = str(make_tiny_base(tmp_path / "base"))
    with init_store(
        tmp_path / "knowledge", base=base, dtype=dtype, encoder=MINILM, background=background()
    ) as store:
        report = store.ingest("law", documents("law", 12, 1), facts=FACTS, settings=SETTINGS)
    for kind in ("text", "fact"):
        bare, learned = report.mean_losses_nats[kind]
        assert learned < bare - 0.05
    with open_store(tmp_path / "knowledge") as store:
        model, _ = store.load()
        assert model.base.dtype == DTYPES[dtype]
        weight = model.base.model.layers[0].mlp.up_proj.weight
        assert (type(weight).__name__ == "Int8Tensor") == (dtype == "int8")
        assert store.verify().is_good
        assert store.ask("Who owns house 1?", domains="law").sources[0].sentence == (
            "The owner of house 1 is court."
        )
        store.remove("law")
        assert store.verify().is_good


def test_another_dtype_is_refused(tmp_path):
    base = str(make_tiny_base(tmp_path / "base"))
    with pytest.raises(InputError, match="dtype must be one of fp32, bf16, fp16, int8, not 'int4'"):
        init_store(
            tmp_path / "knowledge", base=base, dtype="int4", encoder=MINILM, background=background()
        )
    assert not (tmp_path / "knowledge").exists()
