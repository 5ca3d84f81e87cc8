"""What a verb says, and where: results on stdout, progress and notices on stderr, errors as one paragraph."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from byre.cli.progress import Progress, start_progress
from byre.errors import ByreError, StorageError
from byre.reports.printable import printable as printable

_RAW_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Printer(Protocol):
    """What results are printed with: the part of rich's console that is used here."""

    def print(self, *objects: Any, style: str = "", end: str = "\n") -> None: ...


class Lines:
    """A printer for a pipe or a file. rich would write the same bytes there, after 20 ms of imports."""

    def print(self, *objects: Any, style: str = "", end: str = "\n") -> None:
        print(*objects, end=end)


class Output:
    """Where one run of the program speaks. Mutable: it remembers the options that the parser found."""

    def __init__(self, *, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.debug = debug
        self._progress_mode = "auto"
        self._lines = False  # one JSON value a line has been begun
        for stream in (sys.stdout, sys.stderr):
            # A file name that isn't UTF-8, or a terminal that isn't, must not stop a result half-way.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def configure(self, *, progress: str) -> None:
        self._progress_mode = progress

    def result(self, verb: str, payload: Mapping[str, object], text: Callable[[Printer], None]) -> None:
        """Say the result: as one JSON object ``byre/<verb>/1``, or as ``text`` prints it to a console."""
        if self.json:
            self.json_line({"schema": f"byre/{verb}/1", **payload}, indent=2)
        else:
            text(self.console())

    def json_line(self, payload: Mapping[str, object], *, indent: int | None = None) -> None:
        """One JSON value on stdout; dataclasses become objects."""
        import json  # here and not above: most runs print text

        unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
        text = json.dumps(payload, default=_plain, indent=indent, ensure_ascii=not unicode)
        self._lines = self._lines or indent is None
        # Half of a surrogate pair, as a file name that isn't UTF-8 gives, becomes JSON's own escape of it.
        text = text.encode("utf-8", "backslashreplace").decode()
        # JSON lets these stand, a terminal may obey them: C1 controls, changes of direction.
        print(_RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text))

    def console(self) -> Printer:
        """Where results are printed: rich's console on a terminal, plain lines elsewhere."""
        if sys.stdout is None or not (sys.stdout.isatty() or "FORCE_COLOR" in os.environ):
            return Lines()
        from byre.cli.terminal import TerminalPrinter

        return TerminalPrinter()

    def line(self, text: str = "") -> None:
        """One line of a result on stdout, never under --json."""
        if not self.json:
            print(printable(text))

    def notice(self, text: str) -> None:
        """Something the user should know that isn't the result: one line on stderr."""
        print(f"byre: {printable(text)}", file=sys.stderr)

    def error(self, error: ByreError) -> None:
        """The error, as a paragraph on stderr, or as an object ``byre/error/1`` on stdout with --json."""
        if self.debug:
            import traceback

            traceback.print_exception(error)
        if self.json:
            self.json_line(error_object(error), indent=None if self._lines else 2)
        else:
            print(f"byre: {printable(str(error))}", file=sys.stderr)

    @contextmanager
    def progress(self, what: str, total: int | None = None, *, unit: str = "bytes") -> Iterator[Progress]:
        """Progress of a job in bytes, or in things of another ``unit``; shows nothing for the first second."""
        bar = start_progress(what, total, mode=self._progress_mode, unit=unit)
        finished = False
        try:
            yield bar
            finished = True
        finally:
            bar.close(finished=finished)

    def bytes_stream(self) -> BinaryIO:
        """Where a result that is bytes goes. StorageError where stdout was closed from the start."""
        if sys.stdout is None:
            raise StorageError("there is no stdout to write to: it is closed")
        self.flush()
        return sys.stdout.buffer

    def flush(self) -> None:
        """Hand everything said so far to the operating system; raises OSError when it won't have it."""
        if sys.stdout is not None:  # None: started with stdout closed
            sys.stdout.flush()

    def silence(self) -> None:
        """After a failed write: let nothing else be written, also not by the interpreter's own exit."""
        try:
            descriptor = sys.stdout.fileno()
        except (AttributeError, OSError, ValueError):  # closed, or not a real file
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def error_object(error: ByreError) -> dict[str, object]:
    """An error as data, ``byre/error/1``."""
    return {
        "schema": "byre/error/1",
        "error": error.kind,
        "exit_status": error.exit_code,
        "message": str(error),
        "what": error.what,
        **error.fields(),
    }


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
