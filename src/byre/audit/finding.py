"""What a check says: a breach of a rule with its evidence, or that the rule couldn't be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Stage(IntEnum):
    """How far a start gets before the finding ends it. Ordered as the machine goes."""

    FIRMWARE = 1
    LOADER = 2
    KERNEL = 3
    BOOT_DISK = 4
    SESSION = 5
    LOGON = 6
    SHELL = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of one rule. ``where`` is a guest path, a registry value or a place on the disk; ``stage`` is None
    where the start goes on; ``severity`` None means that of the rule; ``target`` None means every target.

    Texts hold names from the guest: escape them before they are shown.
    """

    rule: str
    where: str
    evidence: str
    consequence: str
    stage: Stage | None = None
    severity: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """A rule that couldn't be looked at, and what stood in the way. Never taken for a pass."""

    rule: str
    reason: str
    target: str | None = None
