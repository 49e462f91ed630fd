from pathlib import Path

from typer.main import get_command, get_command_name

from app.cli import VERBS, app
from app.cli_page import render

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_what_the_command_line_says():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "stale: run `python -m app.cli_page docs/cli.md`"
    )


def test_every_verb_and_option_is_on_the_page():
    page = render()
    commands = get_command(app).commands
    assert set(commands) == {
        get_command_name(verb.__name__) for _, verbs in VERBS for verb in verbs
    }
    for option, takers in (
        ("--store", "all but `reword`"),
        ("--json", "all but `demo`, `dashboard`, `cancel`"),
        ("--why", "`ingest`, "),
    ):
        line = next(line for line in page.splitlines() if line.startswith(f"| `{option}` |"))
        assert line.split(" | ")[2].startswith(takers), line
    for name, command in commands.items():
        assert f"\n### {name}\n" in page
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name} has no help text"
            assert all(option in page for option in parameter.opts if option.startswith("--"))
