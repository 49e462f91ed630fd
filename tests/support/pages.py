"""What tests of several pages of the dashboard share."""

from __future__ import annotations


def everything(at):
    """Return all that a page sends to the browser but its pictures, in one string."""
    said = [*at.error, *at.warning, *at.info, *at.success, *at.caption, *at.markdown, *at.text]
    options = [str(box.options) for box in at.selectbox]
    tables = [table.value.to_string() for table in at.dataframe]
    specs = [element.proto.spec for element in at.get("vega_lite_chart")]
    return "\n".join([*(str(part.value) for part in said), *options, *tables, *specs])
