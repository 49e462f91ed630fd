import pytest
from filled_store import new_store

from pipelines.progress import LossNote, recorded_run


def test_a_run_is_recorded_with_its_losses_while_it_goes_on(tmp_path):
    shown = []
    with (
        new_store(tmp_path / "store") as registry,
        recorded_run(
            registry, "ingest", "law", "ann", "first", lambda *told: shown.append(told)
        ) as run,
    ):
        run.progress("reading", 2, 2, "")
        for step in (1, 2, 3):
            run.progress("training", step, 3, LossNote(4.0 - step))
        going = registry.queries.run(run.run_id)
        assert (going.state, going.what, going.done, going.total) == ("running", "training", 3, 3)
        assert (going.note, going.message) == ("weighted loss 1.000", "first")
        assert [tuple(point) for point in going.losses] == [(1, 3.0), (2, 2.0), (3, 1.0)]
        run.progress("training", 1, 1, LossNote(9.0))
        again = registry.queries.run(run.run_id)
        assert [tuple(point) for point in again.losses] == [(1, 9.0)], "of the next segment"
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (KeyboardInterrupt(), "cancelled", None),
        (ValueError("no\nroom"), "failed", "no room"),
    ],
)
def test_a_run_that_stops_says_why(tmp_path, error, state, told):
    with new_store(tmp_path / "store") as registry:
        with (
            pytest.raises(type(error)),
            recorded_run(registry, "evaluate", None, "ann") as run,
        ):
            raise error
        ended = registry.queries.run(run.run_id)
        assert (ended.state, ended.error) == (state, told)
