"""What tests of several pages of the dashboard share."""

from __future__ import annotations

import json

from streamlit.proto.WidgetStates_pb2 import WidgetState

NEW_DOMAIN = "Name of the new domain"
"""The label of its box on the page Ingest."""
DOMAIN_PARTS = ("Versions", "Corpus", "Learning", "Cost", "Weight", "Events", "Act")
"""What the page Domains shows of a domain."""


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


def press(at, label):
    """Press the button of a label, and run."""
    return next(button for button in at.button if button.label == label).click().run()


def fill(at, path, name=None):
    """Give the page Ingest a corpus, and a new domain's name, and run."""
    at.text_input(key="path-Corpus").set_value(str(path))
    if name is not None:
        (box,) = (item for item in at.text_input if item.label == NEW_DOMAIN)
        box.set_value(name)
    return at.run()


def is_sound(at):
    """Return whether a page ran to its end and shows no traceback."""
    told = [element.value for element in (*at.error, *at.warning, *at.info, *at.markdown)]
    return not at.exception and not any("Traceback" in text for text in told)


def choose(at, label, option):
    """Choose, in the list of a label, the first option that has some words, and run."""
    box = next(box for box in at.selectbox if box.label == label)
    found = next(name for name in box.options if option in name)
    return box.select_index(box.options.index(found)).run()


def act_on(run_page, folder, domain, option):
    """Open the acts of a domain and choose one."""
    return choose(run_page("domains", folder, domain=domain, part="Act"), "What to do", option)
