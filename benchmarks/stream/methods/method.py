"""What every way of learning offers to the stream benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchmarks.stream.data import Prepared
from benchmarks.stream.reading import Reader
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings


class Method(Protocol):
    """A base that learns domain after domain, and can be read after each."""

    name: str
    """What tables call it."""
    num_parameters: int
    """How many numbers are trained for a domain."""

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Learn the next domain of the stream: the same rows in the same steps for all methods.

        Args:
            data: the domain.
            learning_rate: the peak; chosen for each method on validation texts.
            settings: everything else about the training.
            progress: told how far it is.
        """

    def reader(self) -> Reader:
        """Return the model after what was learned so far."""

    def save(self, folder: Path) -> None:
        """Write what was learned so far into a folder, as safetensors only."""

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote, in place of what was learned so far."""
