"""The console that results are printed to. Imported only when one is: rich takes 40 ms."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """rich's console, but a reader that leaves is ours to handle: rich itself would exit with status 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError
