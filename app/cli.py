"""`peer-cl`: every verb of the project on the command line.

Reading verbs and a domain's life load no torch; verbs that need the model import it when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import peer_cl
from app import acting, asking, erasing, learning, reading, rewording, serving, using, working
from app.entry import INTERRUPTED
from app.output import say, unwritten
from app.request import AFTER_A_PIPE, Before, StoreOption


class _Verbs(TyperGroup):
    """Typer's, which would end without a word where Ctrl-C comes before a verb is at work."""

    def invoke(self, ctx: Any) -> Any:
        """Read the words after the options, and run the verb, whose own Ctrl-C it tells itself."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say(INTERRUPTED, err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="peer-cl",
    cls=_Verbs,
    help="Give a frozen language model new knowledge as removable expert pools.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"peer-cl {peer_cl.__version__}")
        raise typer.Exit


@app.callback()
def _before_the_verb(
    ctx: typer.Context,
    store: StoreOption = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    ctx.obj = Before(store, debug)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


VERBS = (
    (
        "Learn",
        (
            learning.init,
            rewording.reword,
            learning.ingest,
            learning.evaluate,
            learning.report,
        ),
    ),
    ("Use", (using.generate, using.verify, using.demo)),
    (
        "Read",
        (
            reading.domains,
            reading.show,
            reading.documents,
            reading.document,
            reading.history,
            reading.doctor,
        ),
    ),
    ("See", (serving.dashboard,)),
    ("Work in the background", (working.jobs, working.cancel)),
    ("Ask what holds what", (asking.trace, asking.search, asking.experts)),
    (
        "A domain's life",
        (
            acting.freeze,
            acting.unfreeze,
            acting.disable,
            acting.enable,
            acting.rollback,
            acting.bring_back,
        ),
    ),
    ("Erase", (erasing.erase, erasing.purge)),
)
"""Every verb, under the heading that the help shows it with."""

for _heading, _functions in VERBS:
    for _function in _functions:
        app.command(rich_help_panel=_heading)(_function)


_OF_PYDANTIC = "Value error, "
"""What a library below typer puts before a choice's refusal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after `peer-cl`; default: those of the process.
    """
    command: Any = get_command(app)
    words = list(arguments) if arguments is not None else None
    try:
        code = command.main(args=words, prog_name="peer-cl", standalone_mode=False)
    except typer.Abort:
        typer.echo("error: aborted", err=True)
        return 1
    except SystemExit as ended:  # so typer leaves a pipe that nobody reads any more
        if isinstance(ended.__context__, BrokenPipeError):
            return AFTER_A_PIPE
        raise
    except OSError as error:  # of typer's own words, such as the help's
        say(f"error: {unwritten(error)}", err=True)
        return 2
    except Exception as error:
        # What typer itself raises for words that it cannot read; the verbs' errors end as codes.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "peer-cl")
        told = " ".join(str(message()).replace(_OF_PYDANTIC, "").split()).rstrip(".")
        is_dashed = type(error).__name__ == "NoSuchOption" and _takes_text(error)
        hint = "; put -- before a text that begins with a dash" if is_dashed else ""
        say(f"error: {told}; see `{where} --help`{hint}", err=True)
        return 2
    return code if isinstance(code, int) else 0


def _takes_text(error: Any) -> bool:
    """Return whether the verb that was not understood takes a text of the user's as it is."""
    verb: Any = getattr(getattr(error, "ctx", None), "command", None)
    parameters = getattr(verb, "params", ())
    return any(getattr(one, "metavar", None) in ("TEXT", "PROMPT") for one in parameters)


if __name__ == "__main__":
    sys.exit(main())
