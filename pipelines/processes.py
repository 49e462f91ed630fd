"""What an ingest learns, divided among processes: each loads the base, on a GPU of its own where
there are several, and learns a share.

An item's own experts depend on no other item, and a shard's shared experts on no other shard, so
they have the bits that one process gives.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch

from peer_cl.bases import Base, load_base
from peer_cl.errors import StateError
from peer_cl.hooks import Hooks
from peer_cl.own import OwnExperts, joined, load_own
from pipelines.progress import Progress, no_progress

_SECONDS_BETWEEN_LOOKS = 1.0
_T = TypeVar("_T")
Learn = Callable[[Base, Hooks, Sequence[Any], Path], OwnExperts]
"""Learns some items, and writes each one that is finished into a folder."""


@dataclass
class _Own:
    """What a process holds."""

    base: Base | None = None
    hooks: Hooks | None = None


_OWN = _Own()


def _begin(source: str, dtype: str, state_layer: int, num_threads: int, places: Any) -> None:
    torch.set_num_threads(num_threads)
    _OWN.base = load_base(source, dtype=dtype, device=places.get())
    _OWN.hooks = Hooks(_OWN.base.model, state_layer)


def _call(act: Callable[..., _T], *given: Any) -> _T:
    return act(_OWN.base, _OWN.hooks, *given)


def _learn(base: Base, hooks: Hooks, learn: Learn, items: Sequence[Any], folder: Path) -> bytes:
    return learn(base, hooks, items, folder).to_bytes(base.identity)


@dataclass(frozen=True)
class Processes:
    """Processes that hold a base each. Made by `processes`."""

    num: int
    _pool: ProcessPoolExecutor = field(repr=False)

    def learn(
        self,
        base: Base,
        learn: Learn,
        items: Sequence[Any],
        folder: Path,
        what: str,
        progress: Progress = no_progress,
    ) -> OwnExperts:
        """Return the own experts of items, in their order, each process having learned a share.

        Args:
            base: as they load it.
            learn: a function of a module, or a partial one: it is called in other processes.
            items: at least one.
            folder: to which finished items are written, a file each, or for some together.
            what: is done, for `progress`, which hears of finished files.
        """
        bounds = [len(items) * place // self.num for place in range(self.num + 1)]
        shares = [items[a:b] for a, b in pairwise(bounds) if a < b]

        def look() -> None:
            num = sum(1 for _ in folder.glob("*.safetensors"))
            progress(what, min(num, len(items)), len(items), "")

        jobs = [(_learn, learn, share, folder) for share in shares]
        return joined([load_own(data, base.identity) for data in self.all(jobs, look)])

    def all(
        self, jobs: Sequence[tuple[Any, ...]], look: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """Return what functions return of a process's base, its hooks and further arguments.

        Args:
            jobs: a function and its further arguments each.
            look: called now and then meanwhile.

        Raises: whatever one of them raises; StateError: when a process ended on its way.
        """
        futures: list[Future[Any]] = [self._pool.submit(_call, *job) for job in jobs]
        waiting = set(futures)
        try:
            while waiting:
                _, waiting = wait(waiting, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                look()
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise StateError(
                f"one of {self.num} processes ended on its way (out of memory?): run the same "
                "command again, with fewer processes; it goes on from what is finished"
            ) from error
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def processes(
    num: int, source: str, dtype: str, state_layer: int, device: torch.device
) -> Iterator[Processes]:
    """Start so many processes on a base: what transformers loads, its dtype, where states are read.

    They compute on `device`; on CUDA they take turns at all GPUs. Each has this one's threads.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    places = context.Queue()
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    for number in range(num):
        places.put(f"cuda:{number % gpus}" if gpus else str(device))
    given = (source, dtype, state_layer, torch.get_num_threads(), places)
    with ProcessPoolExecutor(num, context, _begin, given) as pool:
        yield Processes(num, pool)
