"""Facts and tables as plain, aligned text: the same in a pipe, in a narrow terminal and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byre.cli.output import Printer, printable

INDENT = "  "


def title(console: Printer, text: str) -> None:
    console.print(printable(text), style="bold")


def facts(console: Printer, rows: Iterable[tuple[str, str]], *, indent: str = INDENT) -> None:
    """``label  value`` lines, the values under each other. Control characters in either are escaped."""
    shown = [(printable(label), printable(value)) for label, value in rows]
    width = max((_cells(label) for label, _ in shown), default=0)
    for label, value in shown:
        console.print(f"{indent}{_padded(label, width)}", style="dim", end="")
        console.print(f"  {value}")


def table(
    console: Printer,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    indent: str = INDENT,
) -> None:
    """A table without rules, never cut: the terminal may wrap a line, but nothing is lost in a pipe.

    The columns named in ``right`` are aligned there, as numbers are read.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_cells, column)) for column in zip(columns, *shown, strict=True)]
    for number, row in enumerate([list(columns), *shown]):
        cells = [
            _padded(cell, width, right=name in right) for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        console.print(indent + "  ".join(cells).rstrip(), style="" if number else "dim")


def _padded(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - _cells(text))
    return space + text if right else text + space


def _cells(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
