"""Answers of the registry as tables, one file a page; nothing here knows of Streamlit."""
