"""Property tests: new cases at every run by hand, the same ones at every CI run."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no failure, so no case has a deadline.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
