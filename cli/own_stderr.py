"""Standard error for Python alone, while a library prints there by itself."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2 but by Python's sys.stderr, which goes where it went before.

    Ray's C++ part writes there, on every start of workers that may be started anew, and knows no way to be quiet.
    """
    before, kept = sys.stderr, os.dup(2)
    before.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    with os.fdopen(os.dup(kept), "w", encoding=before.encoding, errors="backslashreplace", buffering=1) as ours:
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)
