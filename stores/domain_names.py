"""Which names a domain may have."""

from __future__ import annotations

import re

from peer_cl.errors import DomainNameError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MAX_CHARACTERS = 64


def check_domain_name(name: str) -> str:
    """Return the name, if a domain may be called so.

    Names are typed in commands and shown in tables, so they are short, plain and unlike paths.

    Raises:
        DomainNameError: when the name is empty, too long, or has other characters.

    Example:
        >>> check_domain_name("law-2024")
        'law-2024'
        >>> check_domain_name("../law")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        peer_cl.errors.DomainNameError: domain name '../law' looks like a path; ...
    """
    if not isinstance(name, str):
        raise DomainNameError(f"a domain's name is text, not {type(name).__name__}")
    if not name:
        raise DomainNameError("the domain's name is empty; use a plain word, e.g. 'medicine'")
    if len(name) > _MAX_CHARACTERS:
        raise DomainNameError(
            f"domain name {name[:20]!r}... has {len(name)} characters; "
            f"use at most {_MAX_CHARACTERS}"
        )
    if "/" in name or "\\" in name or ".." in name or name.startswith(("~", ".")):
        hint = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "medicine"
        raise DomainNameError(
            f"domain name {name!r} looks like a path; use a plain word, e.g. {hint!r}"
        )
    if not _NAME.fullmatch(name):
        raise DomainNameError(
            f"domain name {name!r} cannot be used; it may have a-z, 0-9, '.', '_' and '-', "
            "and begins with a letter or a digit"
        )
    return name
