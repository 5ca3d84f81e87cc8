"""YARA rules run over the census: Byre's own few, and a folder of the user's. Needs yara-x (``byre[scan]``)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from byre.audit.facts import Hit, Scan
from byre.audit.rule import SEVERITIES
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.storage.small_file import read_small_file

TIMEOUT = 10
"""Seconds for each file: a rule that blows up on a made-up file costs no more."""
MAX_SIZE = 32 << 20
MAX_RULE_FILE = 32 << 20
_SCRIPTS = (
    ".vbs",
    ".vbe",
    ".js",
    ".jse",
    ".wsf",
    ".hta",
    ".bat",
    ".cmd",
    ".ps1",
    ".reg",
    ".inf",
    ".lnk",
    ".pif",
    ".com",
)
"""What Byre's own rules look at beside programs; a user's rules see every file."""


class YaraScanner:
    """A FileScanner. Mutable: each thread has a scanner of its own."""

    name = "yara"
    max_size = MAX_SIZE

    def __init__(self, rules: Any, about: str, everything: bool) -> None:
        self._rules = rules
        self._about = about
        self._everything = everything
        self._own = threading.local()

    def wants(self, path: str, size: int) -> bool:
        return self._everything or path.lower().endswith(_SCRIPTS)

    def scan(self, path: str, data: bytes) -> Iterator[Hit]:
        import yara_x

        scanner = getattr(self._own, "scanner", None)
        if scanner is None:
            scanner = self._own.scanner = yara_x.Scanner(self._rules)
            scanner.set_timeout(TIMEOUT)
        try:
            found = scanner.scan(data).matching_rules
        except yara_x.TimeoutError as error:
            raise UnsupportedError(f"YARA took longer than {TIMEOUT} seconds", path=path) from error
        except yara_x.ScanError as error:
            raise UnsupportedError(f"YARA can't scan it: {error}", path=path) from error
        for rule in found:
            about = {key: value for key, value in rule.metadata if isinstance(value, str)}
            severity = about.get("severity", "").lower()
            told = about.get("about") or about.get("description") or ""
            yield Hit(path, rule.identifier, told, severity if severity in SEVERITIES else None)

    def report(self) -> Scan:
        return Scan(self.name, used=True, about=self._about)


def open_yara(folder: Path | None, *, builtin: bool = True) -> YaraScanner | Scan:
    """The scanner, or why there is none. UsageError names a rule of the user's that can't be compiled."""
    try:
        import yara_x
    except ImportError:
        if folder is not None:
            raise UnsupportedError("yara-x isn't installed", hint="Install byre[scan].") from None
        return Scan("yara", used=False, problem="yara-x isn't installed: install byre[scan]")
    compiler = yara_x.Compiler()
    own = _builtin() if builtin else []
    theirs = _of(folder) if folder is not None else []
    for name, text in (*own, *theirs):
        compiler.new_namespace(name)
        try:
            compiler.add_source(text, origin=name)
        except yara_x.CompileError as error:
            raise UsageError(
                f"a YARA rule can't be compiled: {str(error).splitlines()[0]}", path=name, found=_line(str(error))
            ) from error
    about = f"YARA-X {version('yara-x')}" + f", {len(own)} file of Byre's own rules" * bool(own)
    about += f" and {len(theirs)} files of {folder}" if folder is not None else ""
    return YaraScanner(compiler.build(), about, folder is not None)


def _builtin() -> list[tuple[str, str]]:
    folder = resources("byre.audit") / "rules"
    return [(each.name, each.read_text("utf-8")) for each in folder.iterdir() if each.name.endswith(".yar")]


def _of(folder: Path) -> list[tuple[str, str]]:
    """The rules below a folder, by name. MissingError where there are none."""
    if not folder.is_dir():
        raise MissingError("the folder of YARA rules isn't there", path=folder)
    found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in (".yar", ".yara") and each.is_file())
    if not found:
        raise MissingError("holds no YARA rules (*.yar, *.yara)", path=folder)
    texts = []
    for path in found:
        texts.append((str(path), read_small_file(path, MAX_RULE_FILE).decode("utf-8", "replace")))
    return texts


def _line(text: str) -> str:
    """Where it is, as the compiler says: ``line 3, column 5``."""
    match = re.search(r"-->.*:(\d+):(\d+)$", text, re.MULTILINE)
    return f"line {match[1]}, column {match[2]}" if match else ""
