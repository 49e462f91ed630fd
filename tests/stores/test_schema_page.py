from pathlib import Path

from stores.schema import Base
from stores.schema_page import render

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


def test_the_page_is_what_the_tables_say():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "stale: run `python -m stores.schema_page docs/schema.md`"
    )


def test_every_table_has_a_section():
    for name in Base.metadata.tables:
        assert f"\n## {name}\n" in render()
