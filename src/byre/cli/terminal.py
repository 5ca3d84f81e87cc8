"""Results on a terminal. Imported only for one: rich takes 20 ms."""

from __future__ import annotations

from typing import IO, Any, NoReturn

from rich.console import Console


class TerminalPrinter:
    """Prints through rich's console, so that styles show."""

    def __init__(self, file: IO[str] | None = None, width: int | None = None) -> None:
        self._console = PlainConsole(
            file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        if self._console.width < 1:  # COLUMNS=0: rich would print nothing at all
            self._console.width = 80

    def print(self, *objects: Any, style: str = "", end: str = "\n") -> None:
        self._console.print(*objects, style=style or None, end=end)


class PlainConsole(Console):
    """rich's console, but a reader that leaves is ours to handle: rich itself would exit with status 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError
