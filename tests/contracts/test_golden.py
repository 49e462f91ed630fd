"""The golden run: two tiny domains, ten losses each and one report, bit for bit.

A change that is said to move no number keeps tests/data/golden.json. One that moves numbers on
purpose writes it anew: `OMP_NUM_THREADS=1 python tests/contracts/test_golden.py --write`.
tests/data/golden_v1.json holds the same run, and more, by the first version (commit 7c582c8).
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from tiny_base import sentences
from tiny_store import copy_store, make_tiny_store

from pipelines import open_store
from pipelines.background import BackgroundSource

FILE = Path(__file__).resolve().parent.parent / "data" / "golden.json"


def machine():
    """Return what bits depend on beside the code."""
    return {
        "torch": torch.__version__,
        "cpu": f"{torch.backends.cpu.get_cpu_capability()} {processor()}",
        "threads": torch.get_num_threads(),
    }


def processor():
    """Return a hash of the processor's model and abilities: libraries choose products by them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    told = {line for line in lines if line.startswith(("vendor_id", "model", "flags", "cache"))}
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()[:8]


def golden(folder):
    """Return the golden figures of a tiny store, through JSON."""
    texts = [" ".join(sentences("prose", 2, seed=seed)) for seed in range(4)]
    with open_store(folder) as store:
        queries = store.registry.queries
        losses = {
            name: [loss for _, loss, _ in queries.domain(name).chain[-1].losses]
            for name in ("law", "medicine")
        }
        report = store.evaluate(background=[BackgroundSource("prose", "prose", texts)])
    figures = {
        "first_losses_nats": {name: own[:10] for name, own in losses.items()},
        "last_loss_nats": {name: own[-1] for name, own in losses.items()},
        "report": report.to_json(),
    }
    return json.loads(json.dumps(figures))


def assert_close(found, wanted, where="golden"):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, value in wanted.items():
            assert_close(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, value in enumerate(wanted):
            assert_close(found[number], value, f"{where}[{number}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=0.02, abs=1e-3), where
    else:
        assert found == wanted, where


def test_a_tiny_store_gives_the_golden_losses_and_report(tiny_store, tmp_path):
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    found = golden(copy_store(tiny_store, tmp_path))
    if kept.pop("machine") == machine():
        assert found == kept
    else:  # another processor or torch adds up in another order
        assert_close(found, kept)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PEER_CL_CACHE"] = temporary
        figures = {"machine": machine(), **golden(make_tiny_store(Path(temporary)))}
    FILE.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
