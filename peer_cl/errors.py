"""The one error tree of the project.

::

    PeerError
    ├── InputError (ValueError)          the user's mistake: a value, a file or an option is wrong
    │   ├── ShapeError                   a tensor does not fit; both shapes are named
    │   ├── CorpusError                  a corpus is missing, empty, wrongly encoded or malformed
    │   └── BaseMismatchError            not the base model or tokenizer of the store or pool
    ├── UnknownError (LookupError)       no such domain, version, snapshot, document or pool
    ├── StateError (RuntimeError)        the thing exists, but its state forbids the act
    │   ├── FrozenError                  a frozen domain cannot learn
    │   ├── StoreLockedError             another writer holds the store
    │   ├── ChangedError                 the store changed since the caller read it
    │   ├── StoreFormatError             a store of another format, or no store at all
    │   └── UnsupportedError             a model, mode or option that is not supported
    └── DamageError (RuntimeError)       stored bytes changed: a hash or a tensor differs

The command line exits with 2 for InputError, UnknownError and StateError, else with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PeerError(Exception):
    """The root of every error that this project raises on purpose."""


class InputError(PeerError, ValueError):
    """A value, a file or an option that the user gave is wrong."""


class ShapeError(InputError):
    """A tensor's shape does not fit; the message names both shapes."""


class CorpusError(InputError):
    """A corpus is missing, empty, binary, wrongly encoded or malformed."""


class BaseMismatchError(InputError):
    """The base model or tokenizer differs from the one that the store or the pool was made for."""


class UnknownError(PeerError, LookupError):
    """Nothing with this name or id exists."""


class StateError(PeerError, RuntimeError):
    """The thing exists, but its state forbids the act."""


class FrozenError(StateError):
    """A frozen domain cannot learn."""


class StoreLockedError(StateError):
    """Another writer holds the store's lock."""


class ChangedError(StateError):
    """The store changed between the caller's look at it and the act."""


class StoreFormatError(StateError):
    """The folder is no store, or a store of a format that this version cannot read."""


class UnsupportedError(StateError):
    """A model, a mode or an option that is not supported."""


class DamageError(PeerError, RuntimeError):
    """Stored bytes differ from what was written."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownError:
    """Return the error for a name that does not exist, with the nearest one that does.

    Example:
        >>> print(unknown_name("domain", "medcine", ["law", "medicine"]))
        no domain 'medcine'; known: law, medicine. Did you mean 'medicine'?
    """
    names = sorted(known)
    if not names:
        return UnknownError(f"no {kind} {name[:80]!r}; there is none yet")
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    near = difflib.get_close_matches(name, names, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    return UnknownError(f"no {kind} {name[:80]!r}; known: {shown}{hint}")
