"""Columns of the tables of domains hold what they are called."""

from dataclasses import replace

from app.dashboard.frames import domains as frames
from app.dashboard.frames import overview as overview_frames
from pipelines import open_store


def test_each_column_of_a_table_holds_what_it_is_called(folder):
    with open_store(folder) as store:
        one, *_ = store.registry.domains()
        document, *_ = store.registry.documents("law")
    told = {
        "texts": "num_texts",
        "facts": "num_facts",
        "held_out": "num_held_out",
        "tokens": "num_tokens",
        "experts": "num_experts",
        "size_bytes": "size_bytes",
        "kept_bytes": "kept_bytes",
        "segments": "num_segments",
    }
    numbers = {field: number for number, field in enumerate(told.values(), 1)}
    summary = replace(one, **numbers)
    expected = {column: numbers[field] for column, field in told.items()}
    (row,) = frames.all_domains([summary]).to_dict("records")
    assert {column: row[column] for column in told} == expected
    (row,) = overview_frames.live_domains([summary], ()).to_dict("records")
    shown = expected.keys() & row.keys()
    assert {column: row[column] for column in shown} == {c: expected[c] for c in shown}
    assert len(shown) == 5
    table, _ = frames.documents([replace(document, base_nats=4.0, nats=2.5)])
    assert table.loc[0, ["before", "after", "tokens"]].tolist() == [4.0, 2.5, 10]
