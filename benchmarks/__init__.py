"""Every figure that the README shows, one command each: `python -m benchmarks NAME`.

A benchmark is a module here with a docstring and `measure(arguments)`, which returns its figures.
A run that may not speak for the README (a quick one, or one with a part missing) returns none.
"""
