"""The mends that there are: a row each, in the order in which they are done."""

from __future__ import annotations

from byre.errors import UsageError
from byre.lite.mending import autostart, boot_files, hal, portable, sessions
from byre.lite.mending.plan import Mend

MENDS = (
    Mend(
        "boot",
        "boot code, active partition, boot sector, loader files, boot.ini",
        ("BOOT-001", "BOOT-002", "BOOT-003", "BOOT-004", "BOOT-006", "BOOT-007", "BOOT-008"),
        boot_files.plan,
    ),
    Mend("hives", "what the registry's logs hold, written into the hives", ("SOUND-009",), sessions.plan_hives),
    Mend("portable", "the boot disk is found on every common controller", portable.RULES, portable.plan),
    Mend("hal", "which HAL this is, and where it starts", hal.RULES, hal.plan, tells=True),
    Mend("intelppm", "Intel's processor driver off", ("PORT-006",), portable.plan_intelppm),
    Mend("hibernation", "a hibernated session given up", ("SOUND-007",), sessions.plan_hibernation, only_asked=True),
    Mend(
        "autostart",
        "entries that start by themselves, disabled or enabled again",
        (),
        autostart.plan,
        only_asked=True,
        tells=True,
    ),
)
NAMES = tuple(mend.name for mend in MENDS)


def chosen(names: tuple[str, ...]) -> tuple[Mend, ...]:
    """The mends of these names, ``all`` among them; every one that needn't be asked for where there is no name."""
    for name in names:
        if name not in NAMES and name != "all":
            raise UsageError(f"there is no mend {name!r}", hint=f"There are: all, {', '.join(NAMES)}.")
    every = not names or "all" in names
    return tuple(mend for mend in MENDS if mend.name in names or (every and not mend.only_asked))
