"""Runs a verb and dies by SIGKILL at the named point of an ingest. Run by test_bad_input.py."""

import os
import signal
import sys

from app.cli import main
from pipelines import growing
from stores import growth, objects


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point):
    if point == "while training":
        ordinary = growing.train_segment

        def training(*args, progress, **options):
            def tell(step, total, loss):
                progress(step, total, loss)
                if step == 2:
                    die()

            return ordinary(*args, progress=tell, **options)

        growing.train_segment = training
    elif point == "while storing objects":
        objects.ObjectStore._publish = die
    elif point == "objects stored":
        growing.NewSegment = die
    elif point == "in the transaction":
        growth.commit_snapshot = die


if __name__ == "__main__":
    arm(sys.argv[1])
    main(sys.argv[2:])
    sys.exit(f"{sys.argv[1]}: nothing died")
