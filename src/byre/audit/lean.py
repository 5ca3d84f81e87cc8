"""Lean: what wastes space inside the guest and in the container, in bytes, and what removing it costs."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Count, Facts
from byre.audit.finding import Finding, Unread
from byre.audit.leftovers import WASTES
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.units import format_size

MIN_HELD = 1 << 20
"""Bytes of free clusters below which a compaction isn't worth its time."""
MIN_CLUSTERS, SCATTERED = 1024, 0.05
"""An image grows in the order in which the guest writes: some disorder is in every one. From one cluster in twenty
on, reading it through was slower on a rotating disk in our own runs; smaller images are read at once anyway."""

RULES = (
    Rule(
        "LEAN-001",
        "lean",
        "Nothing is kept that the system makes anew or never needs again",
        "low",
        False,
        "page file, dumps, temporary files, caches, prefetch, downloaded updates and uninstallers, restore points, "
        "recycle bin, help, logs: bytes on the volume",
        "it takes room in every copy of the image",
        "Microsoft KB 310312 (Disk Cleanup), KB 956324 (hotfix uninstall folders), KB 314482 "
        "(paging files): unchecked",
        "nothing but what the finding says",
        "Disk Cleanup in the guest, then zero free space and 'byre compact'",
    ),
    Rule(
        "LEAN-002",
        "lean",
        "Nothing large is kept that only repairs and later installations need",
        "low",
        False,
        "dllcache, service pack files, update branches, setup sources, the installer cache, hibernation file",
        "it takes room, and removing it costs something that may be wanted one day",
        "Microsoft KB 222193 (Windows File Protection and dllcache), KB 301224 (unchecked: System Restore)",
        "nothing but what the finding says",
        "remove it only where the finding's cost doesn't matter",
    ),
    Rule(
        "LEAN-003",
        "lean",
        "The image holds no clusters that the file system calls free",
        "low",
        False,
        "free space of every partition against what the image holds in its files, bytes",
        "what was deleted in the guest stays in the image, and can be read from it",
        "the file systems' own bitmaps and tables (docs/filesystems.md)",
        "nothing; the file is larger than what is in it",
        "'byre convert IMAGE OUT --drop-free'",
    ),
    Rule(
        "LEAN-004",
        "lean",
        "The image's clusters lie in the disk's order",
        "low",
        False,
        f"share of data clusters that don't lie behind the one before them, from {MIN_CLUSTERS} clusters on",
        "reading the disk through jumps about in the file",
        f"measured by Byre; from {SCATTERED:.0%} on it is told",
        "slow starts where the image lies on a rotating disk or far away",
        "'byre convert IMAGE OUT' writes them in order",
    ),
)


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """One note for each kind that is there, then the container's own."""
    yield from _container(facts)
    if facts.guest is None:
        yield Unread("LEAN-001", "no installed system was found")
        return
    for kind, waste in WASTES.items():
        count = facts.leftovers.get(kind)
        if count is not None and count.bytes:
            rule = "LEAN-001" if waste.safe else "LEAN-002"
            yield Finding(rule, waste.title, told(count), f"removing it costs: {waste.cost}")


def told(count: Count) -> str:
    """Files and bytes, for people."""
    files = "1 file" if count.files == 1 else f"{count.files} files"
    return f"{files}, {format_size(count.bytes)}"


def _container(facts: Facts) -> Iterator[Finding | Unread]:
    layout = facts.layout.value
    if layout is None:
        if facts.layout.state == "unknown":
            yield Unread("LEAN-003", facts.layout.reason or "the container's tables can't be read")
        return
    if layout.distrust is not None:
        yield Unread("LEAN-003", f"free space can't be trusted: {layout.distrust}")
    if layout.taken >= MIN_HELD:
        said = (
            f"{format_size(layout.held)} of {format_size(layout.free)} free, {format_size(layout.taken)} in the file"
        )
        yield Finding("LEAN-003", "free space", said, "removing it costs: deleted files can't be recovered any more")
    share = layout.out_of_order / layout.clusters if layout.clusters else 0.0
    if layout.clusters >= MIN_CLUSTERS and share >= SCATTERED:
        said = f"{layout.out_of_order} of {layout.clusters} clusters, {share:.0%}, are out of order"
        yield Finding("LEAN-004", "the image's clusters", said, "removing it costs: a copy of the image")
