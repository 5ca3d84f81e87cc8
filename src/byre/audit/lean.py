"""Lean: what wastes space inside the guest, in bytes."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.leftovers import LEAN
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.units import format_size

RULES = (
    Rule(
        "LEAN-001",
        "lean",
        "Nothing is kept that the system makes anew or never needs again",
        "low",
        False,
        "page file, downloaded updates and uninstallers, temporary files, prefetch, dumps, recycle bin",
        "it takes room in every copy of the image",
        "what Windows' own Disk Cleanup offers; the page file is made anew at every start",
        "nothing; without $NtUninstall folders the updates can't be taken off again",
        "Disk Cleanup in the guest, then zero free space and 'byre compact'",
    ),
)


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """One note for each kind that is there."""
    if facts.guest is None:
        yield Unread("LEAN-001", "no installed system was found")
        return
    for kind, title in LEAN.items():
        count = facts.leftovers.get(kind)
        if count is not None:
            files = "1 file" if count.files == 1 else f"{count.files} files"
            yield Finding("LEAN-001", title, f"{files}, {format_size(count.bytes)}", "can go")
