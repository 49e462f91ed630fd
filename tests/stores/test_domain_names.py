import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.errors import DomainNameError
from stores.domain_names import check_domain_name


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True))
def test_plain_names_are_returned(name):
    assert check_domain_name(name) == name


@given(st.text())
def test_what_is_let_through_is_short_and_plain(name):
    try:
        check_domain_name(name)
    except DomainNameError:
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name)
    assert ".." not in name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("a" * 10_000, "has 10000 characters; use at most 64"),
        ("../secrets", "looks like a path; use a plain word, e.g. 'secrets'"),
        ("/etc/passwd", "looks like a path"),
        ("c:\\notes", "looks like a path"),
        ("~root", "looks like a path"),
        ("a..b", "looks like a path"),
        ("Medicine", "cannot be used"),
        ("two words", "cannot be used"),
        ("law\n", "cannot be used"),
        ("-x", "cannot be used"),
        ("größe", "cannot be used"),
    ],
)
def test_other_names_are_refused_with_a_reason(name, message):
    with pytest.raises(DomainNameError, match=re.escape(message)):
        check_domain_name(name)
