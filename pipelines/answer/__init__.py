"""Requests: a question finds units of what was learned, and is answered by quoting one.

A unit is a sentence with its document's title, a row of a table, or a fact's statement. `ask` is
the door.
"""

from pipelines.answer.asking import Answer, Source, ask

__all__ = ["Answer", "Source", "ask"]
