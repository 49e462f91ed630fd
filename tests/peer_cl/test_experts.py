import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("most_dense", [8192, 0], ids=["dense", "gathered"])
def test_a_model_in_half_precision_says_about_the_same(
    ids, make_model, monkeypatch, dtype, most_dense
):
    monkeypatch.setattr("peer_cl.experts.DENSE_LIMIT", most_dense)
    model = make_model()
    expected = model.score(ids).log_probs_QBT
    model.to(dtype)
    found = model.score(ids).log_probs_QBT
    torch.testing.assert_close(found, expected, atol=0.3, rtol=0.0)
    assert not torch.equal(found[1], found[0])
    model.generate(ids, domains=["a"], force=True, max_new_tokens=3)
