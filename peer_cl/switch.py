"""Whether a model's pools may speak: said by one thread or task, and for it alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(eq=False)
class _Off:
    """One time that a switch was put off; it may end in another thread than it began in."""

    mark: object
    is_over: bool = False


_OFF: ContextVar[tuple[_Off, ...]] = ContextVar("switched_off", default=())
"""What the running thread or task has put off."""


class Switch:
    """On everywhere, save where it is put off: there, until that is over.

    A count in the model would put it off for every thread, and others' calls, silently, would be
    the bare base's. A thread that is started inside begins with everything on.

    Example:
        >>> switch = Switch()
        >>> with switch.off():
        ...     switch.is_on
        False
        >>> switch.is_on
        True
    """

    def __init__(self) -> None:
        self._mark = object()  # a context that outlives the switch holds on to no model

    @property
    def is_on(self) -> bool:
        """Whether it is on for who asks."""
        return not any(off.mark is self._mark and not off.is_over for off in _OFF.get())

    @contextmanager
    def off(self) -> Iterator[None]:
        """Put it off inside; may be nested, and ends with an exception too."""
        here = _Off(self._mark)
        _OFF.set((*_OFF.get(), here))
        try:
            yield
        finally:
            here.is_over = True
            _OFF.set(tuple(off for off in _OFF.get() if not off.is_over))
