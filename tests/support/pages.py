"""What tests of several pages of the dashboard share."""

from __future__ import annotations

import json

from streamlit.proto.WidgetStates_pb2 import WidgetState


def everything(at):
    """Return all that a page sends to the browser but its pictures, in one string."""
    said = [*at.error, *at.warning, *at.info, *at.success, *at.caption, *at.markdown, *at.text]
    options = [str(box.options) for box in at.selectbox]
    tables = [table.value.to_string() for table in at.dataframe]
    specs = [element.proto.spec for element in at.get("vega_lite_chart")]
    return "\n".join([*(str(part.value) for part in said), *options, *tables, *specs])


def click_cell(at, table, row, column):
    """Click a cell of a table whose cells can be selected, as the browser tells it, and run."""
    clicked = {"selection": {"rows": [], "columns": [], "cells": [[row, column]]}}
    states = at._tree.get_widget_states()
    states.widgets.append(WidgetState(id=table.proto.id, string_value=json.dumps(clicked)))
    return at._run(states)
