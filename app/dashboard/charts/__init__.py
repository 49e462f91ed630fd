"""Charts for the pages: from tidy tables, with units on every axis."""
