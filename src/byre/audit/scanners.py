"""What an audit may be given to look into files with: rules, a ClamAV daemon, lists of known hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scanners:
    """The user's choice. ``rules``: a folder of YARA rules beside the built-in ones; ``clamd``: a socket's path or
    ``HOST:PORT``; ``known``: a store of hashes, None for the user's own where there is one.

    ``builtin`` False leaves the built-in YARA rules out.
    """

    rules: Path | None = None
    clamd: str | None = None
    known: Path | None = None
    builtin: bool = True
