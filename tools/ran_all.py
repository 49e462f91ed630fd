"""Says whether a tier of tests ran: none skipped, and at least one there.

python -m tools.ran_all report.xml [--allow REASON ...]

Silent where all is well, so that pytest's own closing line stays the last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from xml.etree import ElementTree


def complaints(report: str, allowed: Sequence[str] = ()) -> list[str]:
    """Return what speaks against a tier, from pytest's JUnit report.

    Args:
        report: the XML.
        allowed: a test may be skipped when its reason contains one of these.

    Example:
        >>> complaints('<testsuites><testsuite/></testsuites>')
        ['no test ran']
        >>> skipped = '<testcase classname="a" name="b"><skipped message="no GPU"/></testcase>'
        >>> complaints(f'<testsuite><testcase/>{skipped}</testsuite>')
        ['skipped: a::b (no GPU)']
        >>> complaints(f'<testsuite><testcase/>{skipped}</testsuite>', ['GPU'])
        []
    """
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    skips = [(case, skip) for case in cases for skip in case.iter("skipped")]
    found = [
        f"skipped: {case.get('classname')}::{case.get('name')} ({skip.get('message')})"
        for case, skip in skips
        if not any(reason in (skip.get("message") or "") for reason in allowed)
    ]
    return found if len(cases) > len(skips) else ["no test ran", *found]


def main() -> int:
    """Print the complaints about a report and return 1 where there are any."""
    parser = argparse.ArgumentParser(description="Fail where a tier of tests did not run whole.")
    parser.add_argument("report", type=argparse.FileType(encoding="utf-8"))
    parser.add_argument("--allow", action="append", default=[], metavar="REASON")
    arguments = parser.parse_args()
    found = complaints(arguments.report.read(), arguments.allow)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
