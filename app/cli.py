"""`peer-cl`: every verb of the project on the command line."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup

import peer_cl
from app import ask, learn, life, look
from app.options import DEFAULT_STORE, STORE_VARIABLE, flag, opt
from app.output import say
from peer_cl.devices import AUTO, DEVICE_VARIABLE
from peer_cl.errors import InputError, PeerError, StateError, UnknownError, unknown_name


def _named(*verbs: Callable[..., None]) -> dict[str, Callable[..., None]]:
    return {verb.__name__.rstrip("_"): verb for verb in verbs}


VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Learn": _named(
        *(learn.init, learn.study, learn.ingest, learn.evaluate, learn.report),
        *(learn.calibrate, ask.demo),
    ),
    "Ask": _named(
        *(ask.ask, ask.serve, ask.generate, ask.trace, ask.search, ask.experts, ask.verify)
    ),
    "Look": _named(
        *(look.list_, look.show, look.documents, look.document, look.log),
        *(look.status, look.doctor, look.runs, look.dashboard),
    ),
    "A domain's life": _named(
        *(life.freeze, life.unfreeze, life.disable, life.enable, life.rollback),
        *(life.remove, life.restore, life.erase, life.purge),
    ),
}
"""Every verb by its name, under the heading that the help shows it with."""
ALIASES: dict[str, Callable[..., None]] = {"domains": look.list_, "history": look.log}
"""Other names of verbs, which the help does not show."""
DESTROYING = ("erase", "purge")
"""Verbs that are never suggested in place of a mistyped one."""
CONTINUED = ("study", "ingest", "evaluate", "demo")
"""Verbs that go on where they were stopped, when they are run again."""
QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Silences libraries' own bars and notices, which would tear ours apart."""
NOISY = ("torchao", "torch.utils._pytree")
"""Loggers that warn, where torchao is installed, of kernels that a model without it never calls."""


def _without_types(parameters: list[Any]) -> list[Any]:
    """Let the help show metavars and choices, and no types: `<str>` helps nobody."""
    for one in parameters:
        shown = "|".join(one.type_descriptor.choices or ()) or one.metavar
        shown = shown if one.param_type_name == "option" else None
        one.display_type_rich = functools.partial(lambda what, ctx: what, shown)
    return parameters


class _Verb(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; where Ctrl-C ends it, say how it goes on, if it does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            how = ""
            if self.name in CONTINUED and not ctx.params.get("dry_run"):
                how = "; run it again to go on where it stopped"
            elif ctx.params.get("wait"):  # documents that were erased cannot be named again
                how = "; `peer-cl erase --wait` goes on where documents are gone already"
            raise typer.Abort(f"interrupted{how}") from stop


class _Verbs(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that the first word names, or suggest one that destroys nothing."""
        if args[0] not in self.commands:
            raise unknown_name("verb", args[0], self.commands.keys() - DESTROYING - ALIASES.keys())
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="peer-cl",
    cls=_Verbs,
    help="Add knowledge to a frozen language model as removable expert pools, one per domain.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _heading, _verbs in VERBS.items():
    for _name, _function in _verbs.items():
        app.command(_name, cls=_Verb, rich_help_panel=_heading)(_function)
for _name, _function in ALIASES.items():
    app.command(_name, cls=_Verb, hidden=True)(_function)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"peer-cl {peer_cl.__version__}")
        raise typer.Exit


@app.callback()
def _before_the_verb(
    ctx: typer.Context,
    store: Annotated[
        Path, opt("FOLDER", "Folder of the store; before or after the verb.", envvar=STORE_VARIABLE)
    ] = DEFAULT_STORE,
    device: Annotated[
        str,
        opt(
            "DEVICE",
            "cpu, cuda, cuda:1, mps; auto: an accelerator, else the processor.",
            envvar=DEVICE_VARIABLE,
        ),
    ] = AUTO,
    debug: Annotated[bool, flag("--debug", "Show an error's traceback.")] = False,
    version: Annotated[
        bool, Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    os.environ[DEVICE_VARIABLE] = device
    ctx.default_map = {
        verb: {"store": store} for verbs in (*VERBS.values(), ALIASES) for verb in verbs
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    An error is one line on stderr: 2 for the user's mistakes, 1 for ours, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    is_debugging = "--debug" in words
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Libraries and a model make a million objects that stay: looking among them for garbage as
    # often as Python does by default takes a sixth of the time until `ask` answers.
    gc.set_threshold(100_000, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped ingest ends cleanly
    try:
        code = app(
            args=[word for word in words if word != "--debug"],
            prog_name="peer-cl",
            standalone_mode=False,
        )
    except typer.Abort as stop:
        return _fail(str(stop) or "not confirmed, so nothing was changed; --yes answers yes", 130)
    except Exception as error:
        if is_debugging:
            traceback.print_exc()
        return _fail(*_explained(error))
    if code == 130:  # before a verb began
        return _fail("interrupted", 130)
    return code if isinstance(code, int) else 0


def _explained(error: Exception) -> tuple[str, int]:
    """Return what is said of an error, and the exit code."""
    if isinstance(error, typer.TyperException):  # words that typer cannot read
        context = getattr(error, "ctx", None)
        help_of = context.command_path if context else "peer-cl"
        return f"{error.format_message().rstrip('.')}; see `{help_of} --help`", 2
    if isinstance(error, InputError | UnknownError | StateError | OSError):
        return str(error), 2
    if isinstance(error, PeerError):
        return str(error), 1
    return f"{type(error).__name__}: {error} (a fault of peer-cl; --debug shows where)", 1


def _fail(message: str, code: int) -> int:
    say(f"error: {' '.join(message.split())}", err=True)
    return code
