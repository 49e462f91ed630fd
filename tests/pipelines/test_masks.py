import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peer_cl import PoolShape, Segment
from peer_cl.errors import DamageError
from pipelines.masks import Mask

IDS = ("a" * 32, "b" * 32)
ROWS = st.dictionaries(
    st.tuples(st.sampled_from(IDS), st.integers(0, 2)), st.sets(st.integers(0, 15), max_size=5)
)


def segments():
    shape = PoolShape(num_experts=16, num_heads=1, top_k=2, key_width=4)
    made = {}
    for number, name in enumerate(IDS):
        made[name] = Segment(width=8, host_layers=(0, 1, 2), shape=shape)
        for layer in made[name].peer_layers():
            layer.experts.up_ND.data.fill_(float(number + 1))
    return made


@given(rows=ROWS)
def test_bytes_hold_a_mask_whatever_the_order_of_its_rows(rows):
    mask = Mask.of(rows)
    assert Mask.from_bytes(mask.to_bytes()) == mask
    backwards = {place: sorted(found, reverse=True) for place, found in reversed(rows.items())}
    assert Mask.of(backwards).to_bytes() == mask.to_bytes()
    assert mask.num_rows == sum(map(len, rows.values()))


@given(rows=ROWS, other=ROWS)
def test_rows_off_are_zero_and_all_others_keep_their_bits(rows, other):
    loaded, mask = segments(), Mask.of(rows)
    mask.apply(loaded)
    for name, before in segments().items():
        for number in range(3):
            off = rows.get((name, number), set())
            now, was = loaded[name].layer(number), before.layer(number)
            for row in range(16):
                wanted = torch.zeros(8) if row in off else was.experts.up_ND[row]
                assert torch.equal(now.experts.up_ND[row], wanted)
    left = mask.without(other).rows
    assert {(p, r) for p, found in left.items() for r in found} == {
        (p, r) for p, found in rows.items() for r in found if r not in other.get(p, ())
    }


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({("c" * 32, 0): [1]}, "which is not there"),
        ({(IDS[0], 7): [1]}, "layer 7"),
        ({(IDS[0], 0): [16]}, "row 16 of 16"),
    ],
)
def test_a_mask_of_something_else_is_damage(rows, told):
    with pytest.raises(DamageError, match=told):
        Mask.of(rows).apply(segments())


def test_bytes_that_are_no_mask():
    with pytest.raises(DamageError, match="cannot be read"):
        Mask.from_bytes(b"nothing")
    from safetensors.torch import save

    with pytest.raises(DamageError, match=r"'layers\.0'"):
        Mask.from_bytes(save({"layers.0": torch.zeros(2, dtype=torch.int64)}))
