"""Machines and exports by hand, for the tests of ``byre.machine``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from byre.disks.disk import SnapshotInfo
from byre.machine.export.plan import Identity, Subject
from byre.machine.hardware import Choice, Machine

IDENTITY = Identity(
    UUID("7f6e0f70-53fb-4c8e-9d8f-6b1d7f3a2c11"),
    UUID("1b7a1b52-0a4d-4f0a-9be2-6a1f0a9f4f01"),
    bytes.fromhex("0a0b0c1d2e3f"),
    "2026-11-21T05:00:00Z",
)
SNAPSHOTS = (
    SnapshotInfo("1", "clean", "2026-11-01T10:00:00Z", 16 << 20),
    SnapshotInfo("2", "with office", "2026-11-02T10:00:00Z", 16 << 20),
)


def a_machine(**values: Any) -> Machine:
    """A Windows XP as QEMU likes it, with other values where they are given."""
    why = "for the test"
    made = Machine(
        name="xp",
        system=Choice("winxp", why),
        architecture=Choice("i386", why),
        firmware=Choice("bios", why),
        chipset=Choice("i440fx", why),
        cpu=Choice("qemu32", why),
        hidden=Choice((), why),
        cpus=Choice(1, why),
        memory=Choice(256 << 20, why),
        controller=Choice("piix3-ide", why),
        network=Choice("rtl8139", why),
        display=Choice("std", why),
        sound=Choice("ac97", why),
        pointer=Choice("ps2", why),
        clock=Choice("localtime", why),
        acpi=Choice(True, why),
        apic=Choice(True, why),
        hpet=Choice(False, why),
    )
    name = values.pop("name", "xp")
    return replace(made, name=name, **{field: Choice(value, why) for field, value in values.items()})


def a_subject(form: str, machine: Machine | None = None, **values: Any) -> Subject:
    """What is exported, with identities that don't change from run to run."""
    made = Subject(
        machine=machine or a_machine(),
        title="Microsoft Windows XP Service Pack 3 in /WINDOWS on partition 1",
        source="xp.qcow2",
        disk_size=16 << 20,
        sector_size=512,
        identity=IDENTITY,
        form=form,
    )
    return replace(made, **values)
