"""Choosing a row of a table by a click on any of its cells."""

from __future__ import annotations

from typing import Any


def clicked_row(event: Any) -> int | None:
    """Return the place of the row in which a cell was clicked, or None where none was.

    Args:
        event: the state of a table with the selection mode "single-cell".

    Example:
        >>> clicked_row({"selection": {"rows": [], "columns": [], "cells": [(3, "title")]}})
        3
    """
    cells = event["selection"]["cells"]
    return int(cells[0][0]) if cells else None


def marked(row: int | None, column: str) -> dict[str, Any]:
    """Return the state of such a table in which a row's cell is marked, or none is.

    Args:
        row: its place.
        column: whose cell; a column's name in the table.
    """
    cells = [] if row is None else [(row, column)]
    return {"selection": {"rows": [], "columns": [], "cells": cells}}
