import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from app.progress import PLAIN_STEPS, PlainProgress, bar_progress, show_progress


@given(st.integers(1, 500))
def test_plain_lines_are_few_and_end_with_the_end(total):
    lines = []
    tell = PlainProgress(lines.append)
    for done in range(total + 1):
        tell("training", done, total, "")
    assert len(lines) <= PLAIN_STEPS + 1
    assert lines[0] == "training"
    assert lines[-1] == f"training: {total} of {total}"


def test_work_without_an_end_in_sight_is_told_once():
    lines = []
    tell = PlainProgress(lines.append)
    tell("converting", 0, 0, "about 20 s")
    tell("checking", 0, 0, "")
    tell("training", 1, 2, "loss 3")
    assert lines[:2] == ["converting, about 20 s", "checking"]
    assert lines[2].startswith("training: 1 of 2, loss 3, about ")


def test_work_that_is_first_heard_of_when_some_is_done_began_with_the_last_before_it():
    lines, clock = [], iter([0.0, 5.0, 25.0])
    tell = PlainProgress(lines.append, clock=lambda: next(clock))
    tell("reading", 1, 2, "")
    tell("reading", 2, 2, "")
    tell("training", 1, 4, "")
    assert lines == ["reading: 1 of 2", "reading: 2 of 2", "training: 1 of 4, about 60 s left"]


def test_each_piece_of_work_has_a_bar_and_begins_again_with_a_new_one():
    bars = Progress(console=Console(file=io.StringIO()))
    tell = bar_progress(bars)
    for done in (0, 1, 2):
        tell("one", done, 2, "")
    tell("two", 0, 0, "note")
    tell("one", 0, 3, "")
    told = [(task.description, task.completed, task.total) for task in bars.tasks]
    assert told == [("one", 2, 2), ("two", 1, 1), ("one", 0, 3)]


def test_only_the_newest_bars_stay():
    bars = Progress(console=Console(file=io.StringIO()))
    tell = bar_progress(bars)
    for number in range(10):
        tell(f"work {number}", 1, 1, "")
    assert [task.description for task in bars.tasks] == ["work 7", "work 8", "work 9"]
    tell("work 0", 1, 2, "")
    assert bars.tasks[-1].description == "work 0"


def test_without_a_terminal_progress_goes_to_stderr_as_lines(capsys):
    with show_progress() as progress:
        progress("reading", 1, 1, "[note]")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "reading: 1 of 1, [note]\n"
