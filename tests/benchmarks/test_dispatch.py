import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import known, main

ROOT = Path(__file__).resolve().parents[2]


def test_benchmarks_are_known_by_their_measure_function(tmp_path):
    (tmp_path / "speed.py").write_text(
        '"""How fast it is.\n\nMore."""\ndef measure(arguments): ...'
    )
    (tmp_path / "notes.py").write_text('"""No benchmark."""')
    (tmp_path / "broken_import.py").write_text(
        '"""X."""\nimport nothing_there\ndef measure(a): ...'
    )
    assert known(tmp_path) == {"broken_import": "X.", "speed": "How fast it is."}


def test_every_benchmark_says_what_it_measures():
    assert all(known().values())


def test_an_unknown_name_is_one_line_and_exit_code_2(capsys):
    assert main(["nothing-of-the-kind"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("benchmarks: no benchmark 'nothing-of-the-kind'")
    assert captured.err.count("\n") == 1


def test_without_a_name_they_are_listed():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: python -m benchmarks NAME")
    assert all(name in done.stdout for name in known())
