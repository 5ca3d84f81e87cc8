"""What an audit may be given to look into files with: rules, a ClamAV daemon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scanners:
    """The user's choice. ``rules``: a folder of YARA rules beside the built-in ones; ``clamd``: a socket's path or
    ``HOST:PORT``. ``builtin`` False leaves Byre's own YARA rules out.
    """

    rules: Path | None = None
    clamd: str | None = None
    builtin: bool = True
