"""Doing pieces: one after the other, or side by side in processes.

On few cores two processes of one thread each get half as much again done as one of two threads.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from multiprocessing.queues import Queue

import torch

from benchmarks.stream.checks import (
    check_made_of,
    check_precision,
    check_rates,
    check_work,
    within_reach,
)
from benchmarks.stream.pieces import CHAINS
from benchmarks.stream.plan import Piece
from benchmarks.stream.workshop import PART, Workshop
from pipelines.quiet import get_ready

Planned = Callable[[Workshop], list[Piece]]
"""Gives the pieces of a run; goes to other processes, which a lambda cannot."""


def do_missing(shop: Workshop, planned: Planned, minutes: float, jobs: int = 1) -> None:
    """Do the pieces that have no raw file yet; each is kept as soon as it is done.

    Args:
        shop: the stream.
        planned: gives the pieces, in order.
        minutes: no piece is begun after so long.
        jobs: processes side by side. Each has a part of every store for itself, since a store has
            one writer; what needs several domains is done after them, in this process.
    """
    pieces, ends = within_reach(shop, planned(shop)), time.time() + 60 * minutes
    check_rates(shop, [one.name for one in pieces], of_all=False)  # tuning is still to come
    check_made_of(shop)
    check_precision(shop)
    check_work(shop, pieces)
    num_done = sum(shop.raw.has(piece.name) for piece in pieces)
    print(f"{num_done} of {len(pieces)} pieces are done", flush=True)
    if jobs > 1:
        _side_by_side(shop, planned, pieces, ends, jobs)
    _do(shop, pieces, ends)


def _do(shop: Workshop, pieces: Sequence[Piece], ends: float) -> None:
    for piece in (one for one in pieces if not shop.raw.has(one.name)):
        if time.time() > ends:
            print("the minutes are over; the next call goes on", flush=True)
            return
        if not piece.tunes:  # the choice may have fallen since the run began
            check_rates(shop, [piece.name])
        started = time.monotonic()
        shop.raw.write(piece.name, piece.do(shop) | {"made_of": shop.made_of(piece.name)})
        print(f"{piece.name}: {time.monotonic() - started:.0f} s", flush=True)


def units(pieces: Sequence[Piece]) -> list[list[str]]:
    """Return the names of pieces that need no other unit's: tunings, domains, whole chains, and
    what the bare model is asked.

    Example:
        >>> names = ["peer/s0/0-law", "peer/s0/1-war", "peer/s0/mixture", "ability/base/PIQA"]
        >>> chain = ["lora/s0/0-law", "lora/s0/1-war", "ability/lora/s0/PIQA"]
        >>> units([Piece(name, dict) for name in [*names, *chain]])
        ... # doctest: +NORMALIZE_WHITESPACE
        [['peer/s0/0-law'], ['peer/s0/1-war'], ['ability/base/PIQA'],
         ['lora/s0/0-law', 'lora/s0/1-war']]
    """
    alone = [piece for piece in pieces if piece.tunes or piece.learns or piece.asks_base]
    return [[one.name for one in group] for _, group in groupby(alone, key=_unit)]


def _unit(piece: Piece) -> str:
    method, _, rest = piece.name.partition("/")
    return f"{method}/{rest.partition('/')[0]}" if method in CHAINS else piece.name


def _side_by_side(
    shop: Workshop, planned: Planned, pieces: Sequence[Piece], ends: float, jobs: int
) -> None:
    shop.prepare_store()  # all would make it
    tunings = [piece for piece in pieces if piece.tunes]
    others = [piece for piece in pieces if not piece.tunes]
    with _workers(shop, planned, ends, jobs) as pool:
        for some in (tunings, others):  # whoever learns must know the rate
            missing = [unit for unit in units(some) if not all(map(shop.raw.has, unit))]
            for done in as_completed([pool.submit(_do_unit, unit) for unit in missing]):
                done.result()
            if not all(shop.raw.has(piece.name) for piece in tunings):
                return


@contextmanager
def _workers(
    shop: Workshop, planned: Planned, ends: float, jobs: int
) -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    numbers: Queue[int] = spawn.Queue()
    for number in range(jobs):
        numbers.put(number + 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, (cores or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=_begin, initargs=(shop, planned, ends, threads, numbers)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[Workshop, list[Piece], float]
"""In a process of its own: its part of the stream, the pieces, and when it begins no more."""


def _begin(
    shop: Workshop, planned: Planned, ends: float, threads: int, numbers: Queue[int]
) -> None:
    global _worker
    get_ready()
    torch.set_num_threads(threads)
    own = replace(shop, part=f"{PART}{numbers.get()}")
    _worker = own, planned(own), ends


def _do_unit(names: Sequence[str]) -> None:
    shop, pieces, ends = _worker
    _do(shop, [piece for piece in pieces if piece.name in names], ends)
