"""How a function becomes a verb: the options that all verbs share, and --json."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from app.options import DEFAULT_STORE, Author, Folder, Json, open_store
from app.output import print_json

Answer = Iterator[object]
"""A verb yields once: what --json prints, or a function that returns it, where people are told bit
by bit. What it does afterwards is for people alone."""


def _verb(answer: Callable[..., Answer], **shared: tuple[Any, object]) -> Callable[..., None]:
    """Return the function that typer calls in place of a verb's own, which gets the open store."""

    @functools.wraps(answer)
    def run(store: Path, as_json: bool, author: str | None = None, **given: Any) -> None:
        with open_store(store, author) as opened:
            answers = answer(opened, **given)
            found = next(answers)
            if as_json:
                print_json(found() if callable(found) else found)
            else:
                next(answers, None)

    kinds = get_type_hints(
        answer, localns={"Store": Any}, include_extras=True
    )  # no import of SQLAlchemy
    (_, *own), option = inspect.signature(answer).parameters.values(), inspect.Parameter
    parameters = [one.replace(annotation=kinds[one.name]) for one in own] + [
        option(name, option.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in shared.items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def reads(answer: Callable[..., Answer]) -> Callable[..., None]:
    """Make a verb that reads: add --store and --json."""
    return _verb(answer, store=(Folder, DEFAULT_STORE), as_json=(Json, False))


def acts(answer: Callable[..., Answer]) -> Callable[..., None]:
    """Make a verb that writes to the store: add --store, --author and --json."""
    shared = {"store": (Folder, DEFAULT_STORE), "author": (Author, None), "as_json": (Json, False)}
    return _verb(answer, **shared)
