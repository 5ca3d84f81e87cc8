"""The facts of a machine in memory: the specimen's files on a healthy disk, for planting one defect at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from builders import xp
from builders.hive import Node, build_hive
from builders.memory_files import MemoryFiles
from byre.audit.facts import BootSector, Facts, MasterBootRecord, VolumeState
from byre.audit.gathering import gather_system
from byre.audit.scanners import Scanners
from byre.disks.disk import CheckReport
from byre.filesystems.base import FileSystem
from byre.volumes.partition import Partition, PartitionTable
from byre.windows.fact import known

SECTORS = 63
PARTITION = Partition(1, SECTORS * 512, 255 << 20, "primary", "0x07", "NTFS", active=True)
TABLE = PartitionTable("mbr", 512, f"{xp.DISK_SIGNATURE:#010x}", (PARTITION,))


@cache
def clean_files() -> Mapping[str, bytes]:
    return xp.clean_files()


@dataclass
class Plant:
    """One defect. Each part changes what it names; ``facts`` what lies below the file system."""

    remove: tuple[str, ...] = ()
    write: Mapping[str, bytes] = field(default_factory=dict)
    edit: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    system: Callable[[Node], object] | None = None
    software: Callable[[Node], object] | None = None
    facts: Callable[[Facts], Facts] | None = None
    sam: tuple[tuple[str, int, bool], ...] | None = None
    """Accounts (name, RID, has a password); ``administrators`` are their RIDs."""
    administrators: tuple[int, ...] = (500, 1003)
    user: Callable[[Node], object] | None = None
    """A change of the user's hive."""
    unreadable: frozenset[str] = frozenset()


def healthy_disk(files: FileSystem) -> Facts:
    """A disk without a fault, nothing of its system read yet."""
    volume = VolumeState(
        index=1,
        start=PARTITION.start,
        length=PARTITION.length,
        role="primary",
        active=True,
        type="ntfs",
        facts=files.facts(),
        check=known(CheckReport("ntfs", 0, 0)),
        boot=known(BootSector(True, True, 63, 255, SECTORS)),
    )
    container = known(CheckReport("qcow2", 0, 0))
    mbr = known(MasterBootRecord(signature=True, code=True))
    return Facts("memory", container, TABLE, mbr, (volume,), guest=None, kind="unknown")


def planted_files(plant: Plant) -> MemoryFiles:
    """The specimen's files with one defect."""
    files = dict(clean_files())
    hives = ((plant.system, xp.system_hive, "SYSTEM"), (plant.software, xp.software_hive, "SOFTWARE"))
    for change, build, name in hives:
        if change is not None:
            root = build()
            change(root)
            files[f"{xp.SYSTEM32}/config/{name}"] = build_hive(root, name=name)
    if plant.sam is not None:
        sam = xp.sam_hive(plant.sam, administrators=plant.administrators)
        files[f"{xp.SYSTEM32}/config/SAM"] = build_hive(sam, name="SAM")
    if plant.user is not None:
        root = xp.user_hive()
        plant.user(root)
        files[f"{xp.PROFILE}/operator/NTUSER.DAT"] = build_hive(root, name="ntuser.dat")
    for path in plant.remove:
        del files[path]
    for path, edit in plant.edit.items():
        files[path] = edit(files[path])
    files |= plant.write
    return MemoryFiles(files, plant.unreadable)


def facts_of(plant: Plant) -> Facts:
    """The specimen with one defect."""
    memory = planted_files(plant)
    read = gather_system(
        healthy_disk(memory), memory, xp.ROOT, volume=1, loader=memory, file_system="ntfs", scanners=Scanners()
    )
    return plant.facts(read) if plant.facts is not None else read


def first_volume(**changes: object) -> Callable[[Facts], Facts]:
    """A change of the first volume's state."""

    def change(facts: Facts) -> Facts:
        return replace(facts, volumes=(replace(facts.volumes[0], **changes), *facts.volumes[1:]))  # type: ignore[arg-type]

    return change
