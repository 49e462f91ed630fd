"""Every figure that is shown was measured by a command that is named beside it."""

import re

from benchmarks.results import RESULTS, read_results, table

COMMAND = re.compile(r"(python -m benchmarks|make|peer-cl) \S+")


def test_result_files_hold_whole_figures_and_their_tables_are_fresh(root):
    assert root / "docs" / "results" == RESULTS
    for path in sorted(RESULTS.glob("*.json")):
        figures = read_results(path)
        assert figures, path.name
        for figure in figures:
            assert COMMAND.match(figure.command), f"{path.name}: {figure.command}"
        assert path.with_suffix(".md").read_text(encoding="utf-8") == table(figures), path.name
