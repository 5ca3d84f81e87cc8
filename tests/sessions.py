"""The sessions that README and the pages show: ``$ byre …`` and what the program said."""

from __future__ import annotations

import re

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
SESSION = re.compile(r"^\$ (byre [^\n]*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def sessions_of(text: str) -> list[tuple[str, str]]:
    """(command, output) of each session in the page's console blocks."""
    return [
        (command, output.rstrip("\n")) for block in BLOCK.findall(text) for command, output in SESSION.findall(block)
    ]


def comparable(text: str) -> list[str]:
    """The lines without what may differ from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
    # What a file takes on its host is the file system's own affair.
    text = re.sub(r"[\d.]+ [KM]iB on the host", "SPACE on the host", text)
    text = re.sub(r"[\d.]+ [KM]iB -> SPACE on the host", "SPACE -> SPACE on the host", text)
    text = re.sub(r"(space used +).*", r"\1SPACE", text)
    text = re.sub(r"; [\d.]+ [KM]iB freed", "; SPACE freed", text)
    text = re.sub(r"YARA-X \d[\d.]*", "YARA-X VERSION", text)
    return [line.rstrip() for line in text.rstrip("\n").splitlines()]


def cut_to(output: str, shown: str) -> list[str]:
    """The program's lines, cut as the shown ones are: all of them, or as many as stand before the ``...``."""
    lines = comparable(output)
    return lines[: len(comparable(shown.removesuffix("...")))] if shown.endswith("...") else lines
