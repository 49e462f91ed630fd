"""The one error tree of the project.

::

    PeerError
    ├── InputError (ValueError)          the user's mistake: a value, a file or an option is wrong
    │   ├── ShapeError                   a tensor does not fit; both shapes are named
    │   ├── CorpusError                  a corpus is empty, binary, wrongly encoded or malformed
    │   ├── DomainNameError              a domain's name cannot be used
    │   └── BaseMismatchError            not the base model or tokenizer of the store or pool
    ├── UnknownError (LookupError)       no such domain, version, snapshot, document or pool
    ├── StateError (RuntimeError)        the thing exists, but its state forbids the act
    │   ├── FrozenError                  a frozen domain was told to learn
    │   ├── StoreLockedError             another writer holds the store
    │   │   └── BusyError                somebody wrote for too long; the same may be tried again
    │   ├── ChangedError                 the store changed between a person's look and the act
    │   ├── StoreFormatError             a store of a newer format, or no store at all
    │   └── UnsupportedError             a model, cache or mode that is not served
    └── DamageError (RuntimeError)       stored bytes are not what they were: hash or tensors differ

Every message says what is wrong, with the values, and what to do next, in one line. The command
line exits with 2 for InputError, UnknownError and StateError, and with 1 for everything else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PeerError(Exception):
    """The root of every error that peer_cl raises on purpose."""


class InputError(PeerError, ValueError):
    """A value, a file or an option that the user gave is wrong."""


class ShapeError(InputError):
    """A tensor's shape does not fit; the message names both shapes."""


class CorpusError(InputError):
    """A corpus is missing, empty, binary, wrongly encoded or malformed."""


class DomainNameError(InputError):
    """A domain's name is empty, too long, or looks like a path."""


class BaseMismatchError(InputError):
    """The base model or tokenizer differs from the one that the store or the pool was made for."""


class UnknownError(PeerError, LookupError):
    """Nothing with this name or id exists."""


class StateError(PeerError, RuntimeError):
    """The thing exists, but its state forbids the act."""


class FrozenError(StateError):
    """A frozen domain was told to learn."""


class StoreLockedError(StateError):
    """Another live writer holds the store's lease, or its registry."""


class BusyError(StoreLockedError):
    """The registry was kept busy for too long; nothing was written, and it may be tried again."""


class ChangedError(StateError):
    """The store changed between a person's look at it and the act."""


class StoreFormatError(StateError):
    """The folder is no store, or a store of a format that this version cannot read."""


class UnsupportedError(StateError):
    """A model, a cache or a mode of generation that is not served."""


class DamageError(PeerError, RuntimeError):
    """Stored bytes are not what they were when they were written."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownError:
    """Return the error for a name that does not exist, with the nearest one that does.

    Args:
        kind: What was looked for, in the singular ("domain").
        name: What the user wrote.
        known: The names that exist.

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
