"""Lines of progress of commands that take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def timed_lines(quiet: bool) -> Callable[[str], None]:
    """Prints lines to stderr, each after the seconds since now; none if `quiet`."""
    began = time.monotonic()

    def tell(line: str) -> None:
        if not quiet:
            print(f"{time.monotonic() - began:7.0f} s  {line}", file=sys.stderr, flush=True)

    return tell
