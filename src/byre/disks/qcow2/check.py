"""Check an image's metadata: the survey, told as qemu-img tells it."""

from __future__ import annotations

from byre.disks.disk import CheckReport
from byre.disks.qcow2.header import CORRUPT, DIRTY
from byre.disks.qcow2.survey import Survey, survey
from byre.storage.base import Storage


def check_image(storage: Storage) -> CheckReport:
    """All that can be said without reading guest data. Changes nothing; raises where the image can't be opened."""
    return report(survey(storage))


def report(found: Survey) -> CheckReport:
    """The survey's findings as a report."""
    header = found.header
    fragmentation = found.fragmentation
    return found.findings.report(
        allocated_blocks=fragmentation.allocated,
        total_blocks=-(-header.size // header.cluster_size),
        image_end=found.end_cluster << header.cluster_bits,
        details={
            "fragmented_clusters": fragmentation.fragmented,
            "compressed_clusters": fragmentation.compressed,
            "cluster_size": header.cluster_size,
            "snapshots": len(found.roots.snapshots),
            "dirty": bool(header.incompatible & DIRTY),
            "corrupt": bool(header.incompatible & CORRUPT),
        },
    )
