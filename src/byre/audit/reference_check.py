"""What the comparison with media, a folder or another image says: missing, altered, newer, older. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Comparison, Facts, Odd
from byre.audit.finding import Finding, Unread
from byre.audit.platforms import Platform
from byre.audit.rule import Rule

SHOWN = 8
MANY, HALF = 20, 0.5
"""Where more than half of at least twenty files of the same version differ, the reference is of another language or
edition: then a difference says nothing of one file."""
MAX_ALTERED = 50

_ASKED = "only with --reference; the system's own folders against it"
_DIGEST = "Microsoft's Windows Authenticode Portable Executable Signature Format (the digest leaves signatures out)"

RULES = (
    Rule(
        "REF-001",
        "complete",
        "What the reference installs is there",
        "low",
        False,
        _ASKED + ": files that the media's list always copies, or that the other system has",
        "what was taken out may be missed",
        "the media's own TXTSETUP.SIF or LAYOUT.INF",
        "nothing, until something asks for it",
        "take the files from the reference",
    ),
    Rule(
        "REF-002",
        "clean",
        "System files of the reference's version have its bytes",
        "high",
        False,
        _ASKED + ": Authenticode digests of files with the same version",
        "a file that says the same version and has other bytes was altered by somebody",
        _DIGEST,
        "nothing",
        "take the files from the reference, and look for what altered them",
    ),
    Rule(
        "REF-003",
        "genuine",
        "Files newer than the reference's are told",
        "low",
        False,
        _ASKED + ": file versions",
        "hotfixes leave newer files; so does whoever brings their own",
        "Microsoft's description of hotfix packages: a file is replaced by one of a higher version",
        "nothing",
        "compare with the list of hotfixes ('byre inspect')",
    ),
    Rule(
        "REF-004",
        "genuine",
        "No system file is older than the reference's",
        "low",
        False,
        _ASKED + ": file versions",
        "an installer put an older file over a newer one, or parts of two service packs are mixed",
        "Microsoft's description of hotfix packages: a file is replaced by one of a higher version",
        "programs that fail in odd places",
        "install the service pack again",
    ),
)


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules; nothing where no reference was given."""
    found = facts.reference.value
    if found is None:
        if facts.reference.state == "unknown":
            for each in RULES:
                yield Unread(each.id, facts.reference.reason or "the reference can't be read")
        return
    if found.missing:
        said = f"{len(found.missing)} files of {found.title}: {_some(found.missing)}"
        yield Finding("REF-001", found.title, said, "what needs them fails when it is used")
    yield from _altered(found)
    for rule, rows, what in (
        ("REF-003", found.newer, "as hotfixes leave them"),
        ("REF-004", found.older, "parts of another service pack, or another installer's"),
    ):
        if rows:
            said = f"{len(rows)} files: {_some([_line(row) for row in rows])}"
            yield Finding(rule, found.title, said, what)
    if found.unread:
        yield Unread("REF-002", f"{len(found.unread)} files: {_some([_line(row) for row in found.unread])}")


def _altered(found: Comparison) -> Iterator[Finding | Unread]:
    judged = found.same + len(found.altered)
    if len(found.altered) >= MANY and len(found.altered) > HALF * judged:
        said = f"{len(found.altered)} of {judged} files of the same version differ"
        yield Unread("REF-002", f"{found.title} seems to be of another language or edition: {said}")
        return
    for row in found.altered[:MAX_ALTERED]:
        yield Finding("REF-002", row.path, row.said, f"isn't the file of {found.title}")


def _line(row: Odd) -> str:
    return f"{row.path.rpartition('/')[2]} ({row.said})"


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
