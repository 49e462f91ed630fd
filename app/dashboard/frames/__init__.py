"""Tables for the pages: what the registry answered, one tidy row a fact."""
