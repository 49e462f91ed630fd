"""`python -m app`: the same as `peer-cl`, where no script of that name is installed."""

import sys

from app.cli import main

sys.exit(main())
