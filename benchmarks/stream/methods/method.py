"""What every method that learns by gradients can do: learn the next domain, read, be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchmarks.stream.data import Prepared
from pipelines.progress import Progress
from pipelines.reading import Reader
from pipelines.settings import TrainingSettings


class Method(Protocol):
    """A model that learns one domain after the other."""

    name: str
    num_parameters: int
    """Trained for a domain."""

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Learn the next domain of the stream: the same rows in the same steps for all."""

    def reader(self) -> Reader:
        """Return the model after all that was learned so far."""

    def save(self, folder: Path) -> None:
        """Keep what was learned, as safetensors."""

    def load(self, folder: Path) -> None:
        """Bring back what was kept, into a model that has learned nothing yet."""
