"""The faces of the project: the command line `peer-cl` and the dashboard."""
