"""How long a server may be silent before a read from it is given up."""

from __future__ import annotations

import math
import os

from byre.errors import UsageError

VARIABLE = "BYRE_REMOTE_TIMEOUT"
DEFAULT_SECONDS = 30.0
MAX_SECONDS = 3600.0
HINT = f"{VARIABLE}=SECONDS waits longer."


def patience() -> float:
    """Seconds of silence, all tries of one request taken together, until the server is given up.

    ``$BYRE_REMOTE_TIMEOUT``, else 30; UsageError where that is no such number.
    """
    stated = os.environ.get(VARIABLE)
    if not stated:
        return DEFAULT_SECONDS
    try:
        seconds = float(stated)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"{VARIABLE} is no time", found=stated, expected=f"seconds, at most {MAX_SECONDS:.0f}")
    return seconds
