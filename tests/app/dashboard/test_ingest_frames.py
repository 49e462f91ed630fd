"""Tables of the page Ingest."""

from app.dashboard.frames.ingest import jobs_frame, near_frame, preview_frame
from pipelines.previewing import NearDomain, Preview


def test_tables_say_what_happens():
    found = Preview(
        domain="law",
        is_new_domain=False,
        num_documents=10,
        num_facts=0,
        num_twice=1,
        num_known=2,
        num_held_out=1,
        num_erased=4,
        elsewhere=(("medicine", 3),),
        num_new=7,
        num_to_learn=5,
        num_to_hold_out=2,
        num_reworded=0,
        is_measurable=True,
        num_tokens=700,
        num_skipped=0,
        problems=(),
        left_out=((".csv", 2),),
        num_experts=1024,
        num_host_layers=5,
        size_bytes=30_000_000,
        seconds=60.0,
        seconds_from="here",
    )
    rows = preview_frame(found).set_index("what")["number"].to_dict()
    assert rows == {
        "documents in the corpus": 10,
        "copies within the corpus": 1,
        "known to law already": 2,
        "held out by law": 1,
        "erased from law": 4,
        "files left out: .csv": 2,
        "known elsewhere: medicine": 3,
        "new": 7,
        "of these learned": 5,
        "of these held out": 2,
    }
    assert near_frame([NearDomain("law", 3, 20)]).iloc[0].tolist() == ["law", 3, 20]
    assert jobs_frame([]).empty
