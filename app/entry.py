"""The way in: a command that is interrupted while it still loads ends in one line, too."""

import io
import sys

INTERRUPTED = "error: interrupted; nothing was begun"


def main() -> int:
    """Run the command line and return its exit code, 130 where Ctrl-C came before it began."""
    try:
        for stream in (sys.stdout, sys.stderr):
            # Of users' words some letter may lack in the output's encoding: told as its number.
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        from app.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write(f"{INTERRUPTED}\n")
        return 130
