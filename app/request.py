"""The frame of every verb: the options that all share, one store, one line for each error."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from app.output import say
from peer_cl.errors import DamageError, InputError, PeerError, StateError, UnknownError
from pipelines.system_errors import is_of_files, told

if TYPE_CHECKING:
    from pipelines.store import Store

Shared = Literal["json", "who", "why"]
STORE_VARIABLE = "PEER_CL_STORE"
DEFAULT_STORE = "knowledge"
_GOES_ON = "the same command goes on from what is kept"


def read_path(text: str) -> Path:
    """Return the path that a word on the command line names.

    An empty one is most often a variable that is not set. To Python it is the current folder, which
    nobody named, and all in it would be learned, or sent away.

    Raises:
        BadParameter: when it is empty or blank.
    """
    if not text.strip():
        raise typer.BadParameter(
            f"{text!r} names no file or folder; write . for the current folder"
        )
    return Path(text)


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        parser=read_path,
        help=f"Folder of the store; default: ${STORE_VARIABLE}, else ./{DEFAULT_STORE}.",
        show_default=False,
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WhoOption = Annotated[
    str | None,
    typer.Option(
        "--who", help="Written beside the act; default: your user name.", show_default=False
    ),
]
WhyOption = Annotated[
    str, typer.Option("--why", help="The reason, written beside the act.", show_default=False)
]


_SHARED: dict[str, tuple[str, Any, Any]] = {
    "json": ("as_json", JsonOption, False),
    "who": ("who", WhoOption, None),
    "why": ("why", WhyOption, ""),
}
"""By option: the parameter, its annotation and its default."""


@dataclass(frozen=True)
class Request:
    """What the options that verbs share said."""

    folder: Path
    """The store's folder."""
    as_json: bool = False
    """Whether JSON is wanted instead of a table."""
    who: str | None = None
    """Who acts; None: the user's name."""
    why: str = ""
    """The reason of an act."""

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store for the time of a `with` block.

        Raises: StateError: when it is too damaged to be opened: a copy or another folder is wanted.
        """
        from pipelines.store import open_store  # help and bad options do not pay for SQLAlchemy

        try:
            opened = open_store(self.folder, who=self.who)
        except DamageError as error:
            raise StateError(str(error)) from error
        with opened as store:
            try:
                yield store
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(str(interrupt) or _where(store)) from None


def _where(store: Store) -> str:
    """Return at which snapshot an interrupted verb leaves a store; "" where it cannot be read."""
    try:
        return f"the store is whole, at snapshot {store.registry.live().id}; {_GOES_ON}"
    except PeerError:  # what was asked for was to stop, and nothing else shall be told
        return ""


@dataclass(frozen=True)
class Before:
    """What options before the verb said."""

    store: Path | None
    debug: bool


def verb(
    *shared_options: Shared, with_store: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a verb of a function whose first parameter is a Request.

    Every verb takes --debug. Errors become one line on stderr and an exit code.

    Args:
        shared_options: which other shared options it takes: json where it has something to tell,
            who and why where it acts.
        with_store: whether it is about a store, and takes --store.
    """
    shared: dict[str, tuple[Any, Any]] = {
        **({"store": (StoreOption, None)} if with_store else {}),
        "debug": (DebugOption, False),
        **{_SHARED[name][0]: _SHARED[name][1:] for name in shared_options},
    }

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        parameters = [
            *(parameter.replace(annotation=hints[parameter.name]) for parameter in own),
            *(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
                for name, (annotation, default) in shared.items()
            ),
        ]

        @functools.wraps(function)
        def run(ctx: typer.Context, **values: Any) -> None:
            before = ctx.obj if isinstance(ctx.obj, Before) else Before(None, False)
            debug = values.pop("debug") or before.debug
            folder = store_folder(values.pop("store", None), before.store)
            said = {name: values.pop(name) for name in shared if name in values}
            with one_line_errors(debug=debug, folder=folder if with_store else None):
                _check_encoded(ctx, {**said, **values})
                with _options_named(ctx):
                    function(Request(folder, **said), **values)

        context = inspect.Parameter(
            "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        _set_parameters(run, [context, *parameters])
        return run

    return decorate


def _check_encoded(ctx: typer.Context, values: Mapping[str, Any]) -> None:
    """Refuse words that are not in UTF-8: no database, tokenizer or page can take them.

    Python hands over a byte that it cannot read as half a character, which fails where it is
    written. Paths are left alone: a file may be called so.

    Raises: InputError: naming the option.
    """
    names = {item.name: _option_name(item) for item in ctx.command.params}
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii():
                from stores.words import check_utf8  # what is in ASCII does not pay for SQLAlchemy

                check_utf8(names.get(name, name), text)


@contextmanager
def _options_named(ctx: typer.Context) -> Iterator[None]:
    """Call an option as a person typed it where a refusal calls it as Python does: name_odds."""
    try:
        yield
    except InputError as error:
        if type(error) is not InputError:  # others are of what files hold
            raise
        options = {item.name: _option_name(item) for item in ctx.command.params}
        named = {name: option for name, option in options.items() if "_" in name}
        raise renamed(error, named) from error


def renamed(error: InputError, named: Mapping[str, str]) -> InputError:
    """Return a refusal in which words are called as a person knows them.

    Args:
        error: in Python's words.
        named: what each word is called on the command line.
    """
    return InputError(re.sub(r"\w+", lambda word: named.get(word[0], word[0]), str(error)))


def _option_name(parameter: Any) -> str:
    """Return how a person knows an option or argument: --why, DOMAIN."""
    long = [name for name in parameter.opts if name.startswith("--")]
    return str(long[0] if long else parameter.metavar or parameter.name).rstrip(".")


def _set_parameters(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Let typer see these parameters."""
    keyword_only = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters
    ]
    signature = inspect.Signature(keyword_only, return_annotation=None)
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in keyword_only}


def store_folder(after_verb: Path | None, before_verb: Path | None) -> Path:
    """Return the store's folder: said after the verb, before it, by the environment, or default."""
    variable = os.environ.get(STORE_VARIABLE, "")
    named = variable if variable.strip() else DEFAULT_STORE  # a blank one is as one that is not set
    return after_verb or before_verb or Path(named)


@contextmanager
def one_line_errors(*, debug: bool, folder: Path | None = None) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code.

    2 for what the user can mend (InputError, UnknownError, StateError, a file or disk that cannot
    be used), 1 for everything else.

    Args:
        debug: show the traceback too.
        folder: of the store, told where a disk's error names no path.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt as interrupt:
        where = str(interrupt) or f"what was not registered yet is left out; {_GOES_ON}"
        fail(f"interrupted; {where}", 130)
    except (InputError, UnknownError, StateError) as error:
        fail(str(error), 2, debug=debug)
    except PeerError as error:
        fail(str(error), 1, debug=debug)
    except BrokenPipeError:
        _leave_the_pipe()
    except OSError as error:
        fail(told(error, folder), 2 if is_of_files(error) else 1, debug=debug)
    except Exception as error:
        what = f"{type(error).__name__}: {error} (a fault of peer-cl; --debug shows where)"
        fail(what, 1, debug=debug)


def _leave_the_pipe() -> NoReturn:
    """End as a program does whose reader has read enough, such as `head`: without a word.

    What is still to be written goes nowhere, or Python would complain of it on its way out.
    """
    with suppress(OSError, ValueError):  # a stream that is no file, or is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(AFTER_A_PIPE)


AFTER_A_PIPE = 128 + 13
"""What a shell says of a program that SIGPIPE ended."""


def fail(message: str, code: int, *, debug: bool = False) -> typing.NoReturn:
    """Say what went wrong in one line on stderr, and leave with an exit code."""
    if debug:
        typer.echo(traceback.format_exc(), err=True)
    say(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)
