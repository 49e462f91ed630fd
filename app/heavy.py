"""What verbs that run the model do before they import it."""

from pipelines.quiet import get_ready

__all__ = ["get_ready"]
