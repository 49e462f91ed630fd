"""docs/cli.md, written from the command line itself, so that it cannot go stale.

Run `python -m app.cli_page docs/cli.md` after a change of a verb or of an option.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command, get_command_name

from app.cli import VERBS, app

SHARED = ("store", "debug", "as_json", "who", "why", "help")
"""Options that verbs share; described once, under the common ones."""


def render() -> str:
    """Return the page: one section a verb, one line an argument or option."""
    root: Any = get_command(app)
    lines = [
        "# The command line",
        "",
        "Generated from `app/cli.py` by `python -m app.cli_page docs/cli.md`; do not edit.",
        "",
        f"{app.info.help} Errors are one line on stderr; the exit code is 2 for what the user can "
        "mend, 130 for Ctrl-C, 141 (without a word) where the reader of a pipe has read enough, "
        "and 1 for everything else.",
        "",
        "## Options of all verbs",
        "",
        "`--store` and `--debug` may stand before or after the verb.",
        "",
    ]
    lines += _shared_table(root)
    for heading, functions in VERBS:
        lines += ["", f"## {heading}"]
        for function in functions:
            name = get_command_name(function.__name__)
            lines += _section(name, root.commands[name])
    return "\n".join(lines) + "\n"


def _shared_parameters(root: Any) -> list[Any]:
    """Return every shared option once."""
    found = {
        parameter.name: parameter
        for command in root.commands.values()
        for parameter in command.params
        if parameter.name in SHARED
    }
    return [found[name] for name in SHARED if name in found]


def _shared_table(root: Any) -> Iterator[str]:
    """Yield the table of shared options, with which verbs take each."""
    yield "| | meaning | taken by |"
    yield "|---|---|---|"
    for parameter in _shared_parameters(root):
        if parameter.name != "help":
            takers = _takers(root, parameter.name)
            yield f"| `{_name(parameter)}` | {parameter.help or ''} | {takers} |"


def _takers(root: Any, option: str) -> str:
    """Return which verbs take an option, or which do not, where these are fewer."""
    takes = {
        name: option in {parameter.name for parameter in command.params}
        for name, command in root.commands.items()
    }
    others = [f"`{name}`" for name, is_taker in takes.items() if not is_taker]
    if not others:
        return "all"
    if 2 * len(others) < len(takes):
        return f"all but {', '.join(others)}"
    return ", ".join(f"`{name}`" for name, is_taker in takes.items() if is_taker)


def _section(name: str, command: Any) -> Iterator[str]:
    """Yield a verb's section."""
    own = [parameter for parameter in command.params if parameter.name not in SHARED]
    arguments = [
        _name(item) if item.required else f"[{_name(item)}]" for item in own if _is_argument(item)
    ]
    shared = {
        option
        for item in command.params
        if item.name in SHARED and item.name in ("as_json", "who", "why")
        for option in item.opts
    }
    usage = " ".join(["peer-cl", name, *arguments, "[OPTIONS]"])
    yield from ("", f"### {name}", "", f"    {usage}", "", inspect.cleandoc(command.help or ""))
    if shared:
        yield from ("", f"Takes {', '.join(f'`{option}`' for option in sorted(shared))} too.")
    if own:
        yield ""
        yield from _table(own)


def _table(parameters: list[Any]) -> Iterator[str]:
    """Yield a table of arguments and options."""
    yield "| | meaning |"
    yield "|---|---|"
    for parameter in parameters:
        default = parameter.default
        is_told = default not in (None, "", ()) and default is not False  # a 0 is told
        shown = f" ({default})" if is_told and not callable(default) else ""
        yield f"| `{_name(parameter)}` | {parameter.help or ''}{shown} |"


def _is_argument(parameter: Any) -> bool:
    return not any(option.startswith("-") for option in parameter.opts)


def _name(parameter: Any) -> str:
    """Return how a parameter is written."""
    if _is_argument(parameter):
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
