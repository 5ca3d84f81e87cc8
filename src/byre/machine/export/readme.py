"""The README that lies in every exported folder: what it is, and the lines that import it."""

from __future__ import annotations

from collections.abc import Sequence

from byre.machine.export.plan import Subject, TextFile
from byre.machine.export.quoting import markdown, one_line, plain_name
from byre.machine.export.words import described

PATH = "README.md"


def readme(subject: Subject, title: str, lines: Sequence[str], notes: Sequence[str]) -> TextFile:
    """One page. ``lines`` are commands of our own writing, the rest is escaped."""
    rows = "".join(f"| {word} | {markdown(value)} |\n" for word, value in described(subject.machine))
    said = "".join(f"- {markdown(note)}\n" for note in notes)
    commands = "\n".join(one_line(line, 400) for line in lines)
    return TextFile(
        PATH,
        f"# {markdown(plain_name(subject.machine.name))}, for {title}\n\n"
        f"{markdown(subject.title)}. Exported by Byre from {markdown(subject.source)}.\n\n"
        f"## To import it\n\n```\n{commands}\n```\n\n"
        f"## The machine\n\n| what | as Byre has it |\n|---|---|\n{rows}\n" + (f"## Notes\n\n{said}" if said else ""),
    )
