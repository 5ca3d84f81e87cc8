"""The specimen with defects planted by Byre's own writers: what mending is tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import byre as package
from byre.convert.convert import convert_image
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.lite.applying import apply_changes
from byre.lite.changes import Change
from byre.lite.hive_editor import Edit
from byre.lite.registry_changes import hive_changes
from byre.windows.inspection import Inspection

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


def planted(
    out: Path,
    changes: Sequence[Change] = (),
    edits: Sequence[Edit] = (),
    sectors: Callable[[ScratchDisk], None] | None = None,
) -> Path:
    """The specimen with files and registry values changed, and then sectors, as a qcow2 image at ``out``."""
    with open_disk(SPECIMEN) as disk:
        work = open_scratch(disk, out.parent)
        try:
            found = Inspection(work, name=str(SPECIMEN))
            volume, root = found.roots[0]
            assert volume.filesystem is not None
            own = hive_changes(volume.filesystem, root, edits, image=str(SPECIMEN)) if edits else []
            if own or changes:
                apply_changes(work, volume, [*own, *changes])
            if sectors is not None:
                sectors(work)
            convert_image(work, out, "qcow2", force=True)
        finally:
            work.close()
    return out
