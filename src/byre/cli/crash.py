"""What is said of an exception that nothing in Byre was ready for: that it is a bug, and what to report."""

from __future__ import annotations

import platform
import re
import shlex
import traceback
from collections.abc import Sequence
from pathlib import PurePath

from byre import __version__
from byre.errors import ByreError

_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^/@\s]*@)?(?P<rest>[^?#\s]*)(?P<query>\?\S*)?", re.I)


def describe_crash(error: Exception, words: Sequence[str]) -> ByreError:
    """The error to tell, exit status 70, with the original as its cause for ``--debug``."""
    command = redact(shlex.join(["byre", *words]))
    about = f"byre {__version__}, Python {platform.python_version()}, {platform.platform()}; {command}"
    if isinstance(error, MemoryError):
        crash = ByreError(
            "the memory ran out; Byre should need no more than 400 MB for any image",
            hint=f"If there was that much, it is a bug: please report it with this line: {about}",
        )
    else:
        crash = ByreError(
            f"this is a bug in Byre: {_one_line(error)}{_place(error)}",
            hint=f"Please report it with this line: {about} -- and, if you may share it, the image's first 64 KiB. "
            "With --debug it shows the traceback.",
        )
    crash.__cause__ = error
    return crash


def redact(text: str) -> str:
    """URLs without user info and query: tokens stand there."""
    return _URL.sub(lambda match: match["scheme"] + match["rest"] + ("?..." if match["query"] else ""), text)


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {redact(said)}" if said else type(error).__name__


def _place(error: Exception) -> str:
    """The innermost frame that is our own code: where to look first."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "byre" in PurePath(frame.filename).parts]
    if not ours:
        return ""
    frame = ours[-1]
    parts = PurePath(frame.filename).parts
    file = "/".join(parts[len(parts) - 1 - parts[::-1].index("byre") :])
    return f" ({file}:{frame.lineno}, in {frame.name})"
