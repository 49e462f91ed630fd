"""The dashboard: see what was learned and forgotten, and act on it, in a browser.

Pages are thin. `page` opens the store for them, `frames` turns answers of the registry into tables,
`charts` turns tables into charts; what acts is in `pipelines`.
"""
