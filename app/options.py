"""Arguments and options that several verbs share, and the store that they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from pipelines.store import Store

STORE_VARIABLE = "PEER_CL_STORE"
DEFAULT_STORE = Path("knowledge")


def open_store(folder: Path, author: str | None = None) -> Store:
    """Return the store in a folder."""
    from pipelines import store  # loads SQLAlchemy, which help and completion do without

    return store.open_store(folder, author=author)


def _complete_domain(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of domains that begin so, for the shell's completion."""
    own, before = (one.params.get("store") for one in (context, context.find_root()))
    folder = before if own in (None, DEFAULT_STORE) else own
    try:
        with open_store(folder or DEFAULT_STORE) as opened:
            names = [item.domain for item in opened.registry.queries.domains()]
    except Exception:  # a shell that completes a word has no place for an error
        return []
    return [name for name in names if name.startswith(incomplete)]


def opt(metavar: str, help_text: str, **more: Any) -> Any:
    """Return an option that takes a value, named like its parameter."""
    return Option(metavar=metavar, help=help_text, **more)


def flag(name: str, help_text: str) -> Any:
    """Return an option without a value."""
    return Option(name, help=help_text)


_STORE_HELP = f"Folder of the store; default: ${STORE_VARIABLE}, else ./{DEFAULT_STORE}."
_WHY = "Why; recorded with the act."
_DOMAINS_HELP = "Only this domain; may be repeated. Default: what the router finds."

Folder = Annotated[Path, Option("--store", metavar="FOLDER", help=_STORE_HELP, show_default=False)]
Json = Annotated[bool, flag("--json", "Print JSON instead of tables.")]
Author = Annotated[str | None, opt("NAME", "Who acts; default: your user name.")]
Message = Annotated[str, Option("--message", "-m", metavar="TEXT", help=_WHY, show_default=False)]
Domain = Annotated[
    str, Argument(metavar="DOMAIN", help="Name of a domain.", autocompletion=_complete_domain)
]
Domains = Annotated[
    list[str] | None,
    Option("--domain", metavar="DOMAIN", help=_DOMAINS_HELP, autocompletion=_complete_domain),
]
