"""The child process in which other people's binary files are parsed, with limits.

A parser that is led astray can hang, eat all memory or crash; then this process ends, and a new one
reads the next file. Parts and rows come back as JSON: nothing that it says is run or unpickled.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from peer_cl.errors import CorpusError
from pipelines.files import Part, Row


class Worker:
    """Reads files in a child process, which starts with the first one.

    Args:
        max_seconds: of the processor, for one file.
        max_megabytes: of memory.
    """

    def __init__(self, *, max_seconds: int = 120, max_megabytes: int = 2048) -> None:
        self._limits = max_seconds, max_megabytes
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    def read(self, path: Path, suffix: str) -> list[Part | Row]:
        """Return what is in a file; CorpusError "is ..." where it cannot be read."""
        if self._child is None:
            self._child = subprocess.Popen(
                # -P: without it, a corpus' folder in which one stands could shadow modules.
                [sys.executable, "-P", "-m", "pipelines.files.worker", *map(str, self._limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env=os.environ
                | {
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OPENBLAS_NUM_THREADS": "1",  # a stack for each thread counts as memory
                },
            )
        child, found = self._child, list[Part | Row]()
        requests, replies = cast(IO[str], child.stdin), cast(IO[str], child.stdout)
        requests.write(json.dumps([str(path), suffix]) + "\n")
        requests.flush()
        for line in replies:
            kind, fields = json.loads(line)
            if kind == "end":
                if fields:
                    raise CorpusError(fields)
                return found
            found.append(Part(**fields) if kind == "Part" else Row(**fields))
        self._child = None
        child.communicate()
        if child.returncode == -signal.SIGXCPU:
            raise CorpusError(f"takes more than {self._limits[0]} s to read")
        raise CorpusError(
            f"cannot be read: its parser crashed (exit code {child.returncode}; it may use "
            f"{self._limits[1]:,} MB of memory)"
        )


def main() -> None:
    """Read the files that the parent names, a line of JSON each, and answer in lines of JSON."""
    from pipelines.files.parsers import PARSERS, to_line

    max_seconds, max_megabytes = map(int, sys.argv[1:])
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS has no limit of memory that holds
        resource.setrlimit(resource.RLIMIT_AS, (max_megabytes << 20, max_megabytes << 20))
    for line in sys.stdin:
        path, suffix = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + max_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        problem = ""
        try:
            for found in PARSERS[suffix](Path(path)):
                answers.write(to_line(found) + "\n")
        except CorpusError as error:
            problem = str(error)
        except MemoryError:
            problem = f"needs more than {max_megabytes:,} MB of memory to read"
        except Exception as error:  # whatever a library raises, the file is at fault
            problem = f"is broken ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        answers.write(json.dumps(["end", problem]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
