"""An image audited: facts gathered, then judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

from byre.audit.catalogue import OWN, installed_checks
from byre.audit.gathering import gather
from byre.audit.judging import Report, judge
from byre.audit.platforms import platform_named
from byre.audit.rule import QUESTIONS
from byre.audit.scanners import Scanners
from byre.disks.disk import Disk
from byre.errors import UsageError

NO_SCANNERS = Scanners()
NEED_CENSUS = ("clean", "genuine")
"""The questions for which every file of the system's volume is read."""


def _quiet(stage: str) -> None:
    return None


def audit(
    path: str | PathLike[str],
    *,
    targets: Sequence[str] = ("qemu",),
    only: Sequence[str] = (),
    scanners: Scanners = NO_SCANNERS,
    **opening: Any,
) -> Report:
    """Audit an image (``IMAGE`` or ``IMAGE@SNAPSHOT``). ``opening`` goes to ``open_disk``; nothing is changed."""
    from byre.disks.opening import open_disk

    with open_disk(path, **opening) as disk:
        return audit_disk(disk, name=fspath(path), targets=targets, only=only, scanners=scanners)


def audit_disk(
    disk: Disk,
    *,
    name: str,
    targets: Sequence[str] = ("qemu",),
    only: Sequence[str] = (),
    scanners: Scanners = NO_SCANNERS,
    progress: Callable[[str], None] = _quiet,
) -> Report:
    """Audit an open disk. Raises UsageError for an unknown target or question, and what reading the disk raises."""
    platforms = tuple(dict.fromkeys(platform_named(target) for target in targets))
    for question in only:
        if question not in QUESTIONS:
            raise UsageError(f"there is no question {question!r}", hint=f"There are: {', '.join(QUESTIONS)}.")
    others, refused = installed_checks()
    census = not only or any(question in only for question in NEED_CENSUS)
    facts = gather(disk, name=name, progress=progress, scanners=scanners if census else None)
    notices = [f"a check of another package can't be used: {each}" for each in refused]
    return judge(facts, platforms, only=only or tuple(QUESTIONS), checks=(*OWN, *others), notices=notices)
