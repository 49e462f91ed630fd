"""Tables as charts, one file a page; nothing here knows of Streamlit."""
